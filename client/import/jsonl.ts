import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampMs } from "../../common/time.ts";
import { type Conference, ConferenceSchema } from "../../proto/gen/convoke/v1/conference_pb.js";
import { conferenceIdOfContent } from "./identity.ts";
import type { ImportProblem } from "./problem.ts";
import { textLines } from "./text-lines.ts";
import type { ImportItem } from "./upsert.ts";

/** Longer than any valid conference. */
const MAX_LINE_LENGTH = 1024 * 1024;

const CONFERENCE_ID = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;

/** The contract's bound of what a conference needs and expects. */
const MAX_UNITS = 100_000;

/**
 * Reads JSON Lines: on each line a conference in its proto JSON form, such as
 * `{"conferenceId": "standup", "startTime": "2030-01-31T09:00:00Z", "endTime": "2030-01-31T09:15:00Z"}`; empty lines are
 * passed over. A conference without an ID gets one derived from what its line says. Output-only fields are ignored.
 *
 * @param file the name under which problems mention the input
 */
export async function* readJsonLines(
  chunks: AsyncIterable<Uint8Array>,
  file: string,
): AsyncGenerator<{ item: ImportItem } | { problem: ImportProblem }, void, undefined> {
  const lineOfId = new Map<string, number>();
  for await (const { line, text } of textLines(chunks, MAX_LINE_LENGTH)) {
    if (text.trim() === "") continue;
    const problem = (reason: string) => ({ problem: { file, line, reason } });
    const conference = readLine(text);
    if (typeof conference === "string") {
      yield problem(conference);
      continue;
    }
    const otherLine = lineOfId.get(conference.conferenceId);
    if (otherLine !== undefined) {
      yield problem(`the conference ${conference.conferenceId} is on line ${otherLine} already`);
      continue;
    }
    lineOfId.set(conference.conferenceId, line);
    yield { item: { conference, file, line } };
  }
}

/** The conference, or what is wrong with the line. */
function readLine(text: string): Conference | string {
  if (text.length > MAX_LINE_LENGTH) return `the line is longer than ${MAX_LINE_LENGTH} characters`;
  let json: JsonValue;
  try {
    json = JSON.parse(text) as JsonValue;
  } catch (err) {
    return `not JSON: ${err instanceof Error ? err.message : String(err)}`;
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) return "not a JSON object";
  let given: Conference;
  try {
    given = fromJson(ConferenceSchema, json);
  } catch (err) {
    return `not a conference: ${err instanceof Error ? err.message : String(err)}`;
  }
  const violation = violationOf(given);
  if (violation !== undefined) return violation;
  const conference = scheduledPart(given);
  if (conference.conferenceId === "")
    conference.conferenceId = conferenceIdOfContent(canonicalJson(conference));
  return conference;
}

function violationOf({ conferenceId, startTime, endTime, expectedParticipants, weight }: Conference) {
  if (conferenceId !== "" && !CONFERENCE_ID.test(conferenceId))
    return "conferenceId must be 1 to 63 of a-z 0-9 - . _, beginning and ending with a letter or digit";
  if (!startTime) return "startTime is required";
  if (!endTime) return "endTime is required";
  if (timestampMs(endTime) <= timestampMs(startTime)) return "endTime must be after startTime";
  if (expectedParticipants > MAX_UNITS) return `expectedParticipants must be at most ${MAX_UNITS}`;
  if (weight > MAX_UNITS) return `weight must be at most ${MAX_UNITS}`;
  return undefined;
}

/** Without the output-only fields, which a file made from a listing has. */
function scheduledPart(given: Conference): Conference {
  const { conferenceId, displayName, startTime, endTime, expectedParticipants, weight, region, seriesId } =
    given;
  const { requiredLabels, preferredLabels, avoidedLabels } = given;
  return create(ConferenceSchema, {
    conferenceId,
    displayName,
    ...(startTime ? { startTime } : {}),
    ...(endTime ? { endTime } : {}),
    expectedParticipants,
    weight,
    region,
    seriesId,
    requiredLabels,
    preferredLabels,
    avoidedLabels,
  });
}

/** The same for the same conference, however its line is laid out. */
function canonicalJson(conference: Conference): string {
  return JSON.stringify(toJson(ConferenceSchema, conference), (_, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
}
