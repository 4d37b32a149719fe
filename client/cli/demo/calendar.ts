import { readFile } from "node:fs/promises";
import { readCalendar } from "../../import/ical.ts";
import type { CalendarInstance } from "../../import/instance.ts";

/** Two weeks of the sample calendar: several hundred instances. */
const SAMPLE_FROM_MS = Date.UTC(2026, 2, 16);
const SAMPLE_UNTIL_MS = Date.UTC(2026, 2, 30);

/** The first begins soon, the last well within an hour, so that all are due in a window of one hour. */
const FIRST_START_MS = 60_000;
const SPREAD_MS = 45 * 60_000;

/**
 * That many conferences of the sample calendar, brought to now: in the order of the calendar, each as long and as large
 * as there, but all beginning within the hour. The calendar is repeated, as for other teams, when it has fewer.
 */
export async function demoCalendar(count: number, nowMs: number): Promise<CalendarInstance[]> {
  const content = await readFile(new URL("./sample.ics", import.meta.url));
  const range = { fromMs: SAMPLE_FROM_MS, untilMs: SAMPLE_UNTIL_MS };
  const { instances, problems } = await readCalendar(content, { file: "sample.ics", ...range });
  const [problem] = problems;
  if (problem) throw new Error(`the sample calendar is broken in line ${problem.line}: ${problem.reason}`);
  const held = instances.filter(({ cancelled }) => !cancelled);
  return Array.from({ length: count }, (_, index) => {
    const team = Math.floor(index / held.length);
    const instance = held[index % held.length];
    if (!instance) throw new Error("the sample calendar has no instances in its range");
    const position = ((index % held.length) + team / Math.ceil(count / held.length)) / held.length;
    const startMs = Math.round(nowMs + FIRST_START_MS + position * SPREAD_MS);
    return {
      ...instance,
      conferenceId: team === 0 ? instance.conferenceId : `team${team + 1}-${instance.conferenceId}`,
      startMs,
      endMs: startMs + (instance.endMs - instance.startMs),
    };
  });
}
