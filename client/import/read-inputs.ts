import type { Readable } from "node:stream";
import { type Calendar, readCalendar } from "./ical.ts";
import { type Input, type InputFormat, openInput, readAll } from "./input.ts";
import { readJsonLines } from "./jsonl.ts";
import { mergeCalendars } from "./merge.ts";
import type { ImportProblem } from "./problem.ts";
import type { TimeRange } from "./series.ts";
import type { CalendarContent } from "./sync.ts";
import type { ImportItem } from "./upsert.ts";

export interface ReadOptions extends TimeRange {
  readonly stdin: Readable;
  readonly signal: AbortSignal;
  readonly timezone: string | undefined;
  readonly format: InputFormat | undefined;
}

/** What all files of an import say. */
export interface ImportContent {
  readonly calendars: CalendarContent;
  readonly items: readonly ImportItem[];
  readonly problems: readonly ImportProblem[];
  /** Events left out; see `Calendar`. */
  readonly skipped: Calendar["skipped"];
}

/** Reads files one after the other; one that cannot be opened is a problem at its line 1. @throws the signal's reason */
export async function readInputs(files: readonly string[], options: ReadOptions): Promise<ImportContent> {
  const calendars: Calendar[] = [];
  const items = new Map<string, ImportItem>();
  const problems: ImportProblem[] = [];
  for (const file of files) {
    let input: Input;
    try {
      input = await openInput(file, options.stdin, options.format, options.signal);
    } catch (err) {
      options.signal.throwIfAborted();
      problems.push({ file, line: 1, reason: openFailure(err) });
      continue;
    }
    if (input.format === "ics") {
      const calendar = await readCalendar(await readAll(input), {
        file,
        fromMs: options.fromMs,
        untilMs: options.untilMs,
        signal: options.signal,
        ...(options.timezone === undefined ? {} : { timezone: options.timezone }),
      });
      calendars.push(calendar);
      problems.push(...calendar.problems);
      continue;
    }
    for await (const read of readJsonLines(input.chunks, file)) {
      if ("problem" in read) problems.push(read.problem);
      else items.set(read.item.conference.conferenceId, read.item);
    }
  }
  return {
    calendars: mergeCalendars(calendars),
    items: [...items.values()],
    problems,
    skipped: {
      allDay: calendars.reduce((sum, { skipped }) => sum + skipped.allDay, 0),
      zeroLength: calendars.reduce((sum, { skipped }) => sum + skipped.zeroLength, 0),
    },
  };
}

/** Node's message says the name of the file once more. */
function openFailure(err: unknown): string {
  const message = err instanceof Error ? err.message : String(err);
  return `cannot be read: ${message.replace(/, (open|read).*$/, "")}`;
}
