import { createHash, randomUUID } from "node:crypto";
import { clone, create, equals } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import {
  type ConferenceRecord,
  ConferenceRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import {
  type Conference,
  Conference_State,
  ConferenceSchema,
} from "../../proto/gen/convoke/v1/conference_pb.js";
import type { ConferenceEntry } from "../view/conference-entry.ts";
import { nextRecord, type Writer } from "./records.ts";

/** What a caller schedules: the fields that are not output only. */
export const SCHEDULED_FIELDS = [
  "displayName",
  "startTime",
  "endTime",
  "expectedParticipants",
  "weight",
  "region",
  "requiredLabels",
  "preferredLabels",
  "avoidedLabels",
  "seriesId",
] as const satisfies readonly (keyof Conference)[];

export type ScheduledField = (typeof SCHEDULED_FIELDS)[number];

/** The fields that UpdateConference may name, as in the proto. */
export const UPDATABLE_FIELDS: ReadonlyMap<string, ScheduledField> = new Map([
  ["display_name", "displayName"],
  ["start_time", "startTime"],
  ["end_time", "endTime"],
  ["expected_participants", "expectedParticipants"],
  ["weight", "weight"],
  ["region", "region"],
  ["required_labels", "requiredLabels"],
  ["preferred_labels", "preferredLabels"],
  ["avoided_labels", "avoidedLabels"],
]);

/** What is scheduled by a request, with defaults filled in and nothing else. */
export function scheduledConference(given: Conference, requestId: string): Conference {
  const conference = copyFields(given, create(ConferenceSchema), SCHEDULED_FIELDS);
  conference.conferenceId = given.conferenceId || deriveId(requestId);
  conference.weight = defaultWeight(conference);
  return conference;
}

/** A conference weighs one unit for each expected participant, and at least one. */
function defaultWeight({ weight, expectedParticipants }: Conference) {
  return weight || Math.max(1, expectedParticipants);
}

/** The same request gives the same ID, so that repeating it finds the conference it made. */
function deriveId(requestId: string) {
  if (requestId === "") return `c-${randomUUID()}`;
  return `c-${createHash("sha256").update(requestId).digest("hex").slice(0, 32)}`;
}

export function newRecord(
  scheduled: Conference,
  requestId: string,
  { nowMs, attemptId }: Writer,
): ConferenceRecord {
  const conference = clone(ConferenceSchema, scheduled);
  conference.state = Conference_State.SCHEDULED;
  conference.createTime = timestampFromMs(nowMs);
  conference.updateTime = timestampFromMs(nowMs);
  return create(ConferenceRecordSchema, { conference, requestId, attemptId });
}

/** Whether what was scheduled is just what is given. */
export function isScheduledAs(entry: ConferenceEntry, scheduled: Conference): boolean {
  const standing = copyFields(entry.conference, create(ConferenceSchema), SCHEDULED_FIELDS);
  standing.conferenceId = entry.id;
  return equals(ConferenceSchema, standing, scheduled);
}

/**
 * Changes what was scheduled. A dispatch stays where it is, and its validity follows the new end. What was cancelled is
 * scheduled again.
 */
export function rescheduleRecord(
  entry: ConferenceEntry,
  given: Conference,
  fields: readonly ScheduledField[],
  graceMs: number,
  writer: Writer,
): ConferenceRecord {
  const { record, conference } = nextRecord(entry, writer);
  copyFields(given, conference, fields);
  conference.weight = defaultWeight(conference);
  record.retryTimeMs = 0n;
  if (conference.state === Conference_State.CANCELLED) {
    conference.state = Conference_State.SCHEDULED;
    delete conference.claim;
    delete conference.dispatch;
    delete conference.failure;
    conference.failedAttempts = 0;
  }
  if (conference.dispatch && conference.endTime) {
    conference.dispatch.validUntil = timestampFromMs(timestampMs(conference.endTime) + graceMs);
  }
  return record;
}

function copyFields(from: Conference, to: Conference, fields: readonly ScheduledField[]): Conference {
  for (const field of fields) {
    const value = from[field];
    // Of these only the two times can be absent.
    if (value === undefined) delete to[field as "startTime" | "endTime"];
    else Object.assign(to, { [field]: structuredClone(value) });
  }
  return to;
}
