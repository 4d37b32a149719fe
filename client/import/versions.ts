import type { CalendarEvent } from "./calendar-event.ts";
import { InputError } from "./problem.ts";
import { instantOfTime } from "./property.ts";
import type { Series } from "./series.ts";

/**
 * Sorts the events of one UID into the series and its changed instances. A file may hold several versions of either: the
 * highest SEQUENCE counts, and of equals the last in the file. Different events that share a UID are an error, because
 * only one of them can be kept.
 */
export function seriesOf(events: readonly CalendarEvent[]): {
  series: Series;
  errors: readonly InputError[];
} {
  const errors: InputError[] = [];
  let master: CalendarEvent | undefined;
  const overrides = new Map<number, CalendarEvent>();
  for (const event of events) {
    if (event.recurrenceId) {
      const originalMs = instantOfTime(event.recurrenceId);
      const other = overrides.get(originalMs);
      if (!other || event.sequence >= other.sequence) overrides.set(originalMs, event);
      continue;
    }
    if (master && event.sequence === master.sequence && !isSame(event, master))
      errors.push(
        new InputError(event.line, `the UID ${JSON.stringify(event.uid)} is that of line ${master.line} too`),
      );
    if (!master || event.sequence >= master.sequence) master = event;
  }
  return { series: { master, overrides: [...overrides.values()] }, errors };
}

function isSame(a: CalendarEvent, b: CalendarEvent): boolean {
  return instantOfTime(a.start) === instantOfTime(b.start) && a.displayName === b.displayName;
}
