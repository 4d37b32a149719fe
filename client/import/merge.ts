import type { Calendar } from "./ical.ts";
import type { CalendarContent } from "./sync.ts";

/**
 * What several calendars say together. Where two have the same conference the later one counts: files are given in the
 * order in which they were exported.
 */
export function mergeCalendars(calendars: readonly Calendar[]): CalendarContent {
  const instances = new Map(
    calendars.flatMap((calendar) => calendar.instances.map((instance) => [instance.conferenceId, instance])),
  );
  const elsewhere = calendars
    .flatMap((calendar) => calendar.elsewhere)
    .filter(({ conferenceId }) => !instances.has(conferenceId));
  const seriesIds = new Set(calendars.flatMap((calendar) => [...calendar.seriesIds]));
  return { instances: [...instances.values()], elsewhere, seriesIds };
}
