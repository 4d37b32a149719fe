import { create } from "@bufbuild/protobuf";
import { stringify } from "yaml";
import { type Conference, ConferenceSchema } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { formatProblem, type ImportProblem } from "../../import/problem.ts";
import { countsText } from "../../import/progress.ts";
import type { ImportContent } from "../../import/read-inputs.ts";
import { itemOf } from "../../import/sync.ts";
import type { ImportCounts, ImportItem } from "../../import/upsert.ts";
import { spanCell, textCell, timeCell } from "../cells.ts";
import type { CliContext } from "../context.ts";
import type { OutputFormat } from "../options.ts";
import { printList, type Resource } from "../output.ts";

/** A file of nothing but problems should not scroll everything else away. */
const MAX_PROBLEM_LINES = 100;

const plannedConference: Resource<typeof ConferenceSchema> = {
  singular: "conference",
  plural: "conferences",
  schema: ConferenceSchema,
  columns: [
    { header: "ID", cell: (conference) => conference.conferenceId },
    { header: "START", cell: (conference) => timeCell(conference.startTime) },
    { header: "LENGTH", cell: (conference) => spanCell(conference.startTime, conference.endTime) },
    { header: "WEIGHT", cell: (conference) => String(conference.weight) },
    { header: "NAME", cell: (conference) => textCell(conference.displayName) },
  ],
};

/** What the files want scheduled. */
export function liveItems({ items, calendars }: ImportContent): ImportItem[] {
  return [...items, ...calendars.instances.filter(({ cancelled }) => !cancelled).map(itemOf)];
}

/** `file:line: reason` for each, on stderr. */
export function writeProblems({ stderr }: Pick<CliContext, "stderr">, problems: readonly ImportProblem[]) {
  for (const problem of problems.slice(0, MAX_PROBLEM_LINES)) stderr.write(`${formatProblem(problem)}\n`);
  const more = problems.length - MAX_PROBLEM_LINES;
  if (more > 0) stderr.write(`and ${more} more\n`);
}

/** The conferences of a dry run. */
export async function printPlanned(context: CliContext, format: OutputFormat, content: ImportContent) {
  const conferences = async function* (): AsyncGenerator<Conference> {
    for (const { conference } of liveItems(content)) yield create(ConferenceSchema, conference);
  };
  await printList(context, format, plannedConference, conferences());
}

export interface Summary {
  readonly content: ImportContent;
  /** Undefined when nothing was sent. */
  readonly counts: ImportCounts | undefined;
  readonly rejections: readonly ImportProblem[];
}

/** What was read and what became of it: a line for people, or an object with the problems in it. */
export async function printSummary(context: CliContext, format: OutputFormat, summary: Summary) {
  const { content, counts, rejections } = summary;
  const { allDay, zeroLength } = content.skipped;
  if (format === "table") {
    const skipped = [
      ...(allDay > 0 ? [plural(allDay, "all-day event")] : []),
      ...(zeroLength > 0 ? [plural(zeroLength, "event without length", "events without length")] : []),
    ];
    const tail = skipped.length > 0 ? `; skipped ${skipped.join(" and ")}` : "";
    await context.print(
      `${plural(liveItems(content).length, "conference")}${counts ? `: ${countsText(counts)}` : ""}${tail}`,
    );
    return;
  }
  const object = {
    conferences: liveItems(content).length,
    ...(counts ?? {}),
    skippedAllDay: allDay,
    skippedZeroLength: zeroLength,
    problems: content.problems,
    rejections,
  };
  await context.print(format === "json" ? JSON.stringify(object, undefined, 2) : stringify(object).trimEnd());
}

/** `1 problem`, `2 problems`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
