import type { CalendarEvent } from "./calendar-event.ts";
import { type CalendarDuration, type CalendarTime, instantOfTime } from "./property.ts";
import { expandRule, type RecurrenceBudget } from "./recurrence.ts";
import { reaches } from "./recurrence-rule.ts";
import { DAY_MS, instantOf, localOf, type Zone } from "./zone.ts";

/** When something starts; `untilMs` is exclusive. Milliseconds since 1970. */
export interface TimeRange {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** One instance of a series: which event says what it is like, and when it is. */
export interface Occurrence {
  readonly event: CalendarEvent;
  /** Its start before anyone moved it, which identifies it; undefined when the event does not recur. */
  readonly originalMs: number | undefined;
  readonly startMs: number;
  readonly endMs: number;
}

/** The events of one UID. */
export interface Series {
  /** Missing when the file holds only changed instances, as an invitation to one of them does. */
  readonly master: CalendarEvent | undefined;
  /** At most one for each original start. */
  readonly overrides: readonly CalendarEvent[];
}

/** Offsets are less than a day, and a series may cross from one to another. */
const ZONE_SLACK_MS = 2 * DAY_MS;

/**
 * The occurrences of a series that start in the range, and all changed instances and single events wherever they are.
 * Cancelled ones are among them. Changed instances count even when the series no longer has their original start.
 *
 * @throws {BudgetError} when the rules take too much work
 */
export function expandSeries(series: Series, range: TimeRange, budget: RecurrenceBudget): Occurrence[] {
  const { master, overrides } = series;
  if (!master) return overrides.map((override) => changed(override, originalOf(override, undefined)));
  if (master.rules.length === 0 && master.extraDates.length === 0 && overrides.length === 0)
    return [occurrence(master, undefined, master.start, master.length)];
  const occurrences = new Map<number, Occurrence>();
  const shifts = shiftsOf(series);
  for (const [originalMs, { start, length }] of originalStarts(master, widened(range, shifts), budget)) {
    const shift = shifts.findLast(({ fromMs }) => fromMs <= originalMs);
    occurrences.set(
      originalMs,
      shift
        ? occurrence(shift.event, originalMs, moved(originalMs, shift), shift.event.length)
        : occurrence(master, originalMs, start, length),
    );
  }
  for (const override of overrides) {
    const originalMs = originalOf(override, master);
    occurrences.set(originalMs, changed(override, originalMs));
  }
  return [...occurrences.values()];
}

/** DTSTART, RRULE and RDATE without EXDATE, by their instants. */
function originalStarts(master: CalendarEvent, range: TimeRange, budget: RecurrenceBudget) {
  const { start, length, rules, extraDates, excludedDates } = master;
  const { zone } = start;
  const starts = new Map<number, { start: CalendarTime; length: CalendarDuration }>();
  const add = (time: CalendarTime, itsLength = length) => {
    starts.set(instantOfTime(time), { start: time, length: itsLength });
  };
  // Google cuts a series off before its first instance by an UNTIL that is earlier than DTSTART.
  if (rules.length === 0 || rules.some((rule) => reaches(rule, zone, start.localMs))) add(start);
  const window = { fromMs: range.fromMs - ZONE_SLACK_MS, untilMs: range.untilMs + ZONE_SLACK_MS };
  for (const rule of rules) {
    for (const localMs of expandRule(rule, start.localMs, window, budget)) {
      if (!reaches(rule, zone, localMs)) break;
      add({ localMs, isDate: start.isDate, zone });
    }
  }
  for (const extra of extraDates) add(extra.start, extra.length);
  for (const excluded of excludedDates) {
    if (!excluded.isDate || start.isDate) starts.delete(instantOfTime(excluded));
    else
      for (const startMs of starts.keys())
        if (isOnDay(startMs, zone, excluded.localMs)) starts.delete(startMs);
  }
  return starts;
}

function isOnDay(instantMs: number, zone: Zone, dayMs: number): boolean {
  return Math.floor(localOf(zone, instantMs) / DAY_MS) * DAY_MS === dayMs;
}

/** What a change of an instance and all that follow does to those: how far it moves them, in local time. */
interface Shift {
  readonly fromMs: number;
  readonly byMs: number;
  readonly event: CalendarEvent;
}

function shiftsOf({ master, overrides }: Series): Shift[] {
  return overrides
    .filter(({ andFuture }) => andFuture)
    .map((event) => {
      const fromMs = originalOf(event, master);
      return { fromMs, byMs: event.start.localMs - localOf(event.start.zone, fromMs), event };
    })
    .sort((a, b) => a.fromMs - b.fromMs);
}

function moved(originalMs: number, { byMs, event }: Shift): CalendarTime {
  const { zone, isDate } = event.start;
  return { localMs: localOf(zone, originalMs) + byMs, isDate, zone };
}

/** Instances may be moved into the range from outside of it. */
function widened({ fromMs, untilMs }: TimeRange, shifts: readonly Shift[]): TimeRange {
  const byMs = Math.max(0, ...shifts.map((shift) => Math.abs(shift.byMs)));
  return { fromMs: fromMs - byMs, untilMs: untilMs + byMs };
}

/** The instant a RECURRENCE-ID names. Some programs write only the day: then it is the series' time on that day. */
function originalOf(override: CalendarEvent, master: CalendarEvent | undefined): number {
  const id = override.recurrenceId ?? override.start;
  if (!id.isDate || !master || master.start.isDate) return instantOfTime(id);
  const timeMs = master.start.localMs % DAY_MS;
  return instantOf(master.start.zone, id.localMs + ((timeMs + DAY_MS) % DAY_MS));
}

function changed(override: CalendarEvent, originalMs: number): Occurrence {
  return occurrence(override, originalMs, override.start, override.length);
}

function occurrence(
  event: CalendarEvent,
  originalMs: number | undefined,
  start: CalendarTime,
  { daysMs, exactMs }: CalendarDuration,
): Occurrence {
  const endMs = instantOf(start.zone, start.localMs + daysMs) + exactMs;
  return { event, originalMs, startMs: instantOfTime(start), endMs };
}
