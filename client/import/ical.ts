import { type CalendarEvent, readEvent, uidOf } from "./calendar-event.ts";
import { type RawComponent, readComponents } from "./components.ts";
import { seriesIdOf } from "./identity.ts";
import { type CalendarInstance, instanceOf } from "./instance.ts";
import { type ImportProblem, InputError } from "./problem.ts";
import { BudgetError, createBudget } from "./recurrence.ts";
import { expandSeries, type TimeRange } from "./series.ts";
import { seriesOf } from "./versions.ts";
import type { Zone } from "./zone.ts";
import { calendarZones, createZoneNames, type ZoneNames } from "./zone-finder.ts";

export interface CalendarOptions extends TimeRange {
  /** The name under which problems mention the file. */
  readonly file: string;
  /** The zone of floating times, by its IANA or Windows name. Default: the calendar's X-WR-TIMEZONE, else UTC. */
  readonly timezone?: string;
  /** Asked between series, so that the reading of a large file can be given up. */
  readonly signal?: AbortSignal;
}

/** What a file says about a range of time. */
export interface Calendar {
  /** The instances that start in the range, in order of their start; each conference once. */
  readonly instances: readonly CalendarInstance[];
  /** Changed instances and single events that start elsewhere and are not over: where one of them may have gone. */
  readonly elsewhere: readonly CalendarInstance[];
  /** The series that were read in full: what the control plane has of them and the calendar has not, is deleted. */
  readonly seriesIds: ReadonlySet<string>;
  /** In order of their lines. */
  readonly problems: readonly ImportProblem[];
  /** Events left out, each counted once, wherever its instances are. */
  readonly skipped: { readonly allDay: number; readonly zeroLength: number };
}

/** More than every minute of three months, and done in a fraction of a second. */
const MAX_STEPS = 200_000;

/** How many series are expanded before the event loop has a turn. */
const SERIES_A_TURN = 200;

/**
 * Reads an iCalendar file (RFC 5545) as Google, Outlook and Apple write it. What is broken becomes a problem; the other
 * events are read all the same.
 *
 * @throws {RangeError} when `timezone` is unknown; the signal's reason when it aborts
 */
export async function readCalendar(content: Uint8Array, options: CalendarOptions): Promise<Calendar> {
  const { file, fromMs, untilMs, signal } = options;
  const { events, brokenUids, errors } = readEvents(content, options.timezone);
  const seriesIds = new Set<string>();
  const instances: CalendarInstance[] = [];
  const elsewhere: CalendarInstance[] = [];
  const allDay = new Set<CalendarEvent>();
  const zeroLength = new Set<CalendarEvent>();
  let turn = 0;
  for (const [uid, versions] of events) {
    if (++turn % SERIES_A_TURN === 0) await new Promise<void>((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
    const { series, errors: ambiguous } = seriesOf(versions);
    errors.push(...ambiguous);
    try {
      for (const occurrence of expandSeries(series, options, createBudget(MAX_STEPS))) {
        const { event, originalMs, startMs, endMs } = occurrence;
        const isPlaced = originalMs === undefined || event.recurrenceId !== undefined;
        if (event.allDay) allDay.add(event);
        else if (endMs <= startMs) zeroLength.add(event);
        else if (startMs >= fromMs && startMs < untilMs) instances.push(instanceOf(occurrence, file));
        else if (isPlaced && endMs > fromMs) elsewhere.push(instanceOf(occurrence, file));
      }
      if (!brokenUids.has(uid)) seriesIds.add(seriesIdOf(uid));
    } catch (err) {
      if (!(err instanceof BudgetError)) throw err;
      errors.push(new InputError(series.master?.line ?? 1, err.message));
    }
  }
  return {
    instances: instances.sort((a, b) => a.startMs - b.startMs || (a.conferenceId < b.conferenceId ? -1 : 1)),
    elsewhere,
    seriesIds,
    problems: errors
      .map(({ line, message }) => ({ file, line, reason: message }))
      .sort((a, b) => a.line - b.line),
    skipped: { allDay: allDay.size, zeroLength: zeroLength.size },
  };
}

/** The events of a file by their UID, the UIDs of those that are broken, and why. */
function readEvents(content: Uint8Array, timezone: string | undefined) {
  const names = createZoneNames();
  const floating = floatingZone(names, timezone);
  const { calendars, errors: fileErrors } = readComponents(content);
  const events = new Map<string, CalendarEvent[]>();
  const brokenUids = new Set<string>();
  const errors = [...fileErrors];
  for (const calendar of calendars) {
    const zones = calendarZones(calendar, names, floating);
    errors.push(...zones.errors);
    const cancelled = isCancellation(calendar);
    for (const component of calendar.components.filter(({ name }) => name === "VEVENT")) {
      try {
        const event = readEvent(component, zones.lookup);
        const versions = events.get(event.uid) ?? [];
        versions.push(cancelled ? { ...event, cancelled } : event);
        events.set(event.uid, versions);
      } catch (err) {
        if (!(err instanceof InputError)) throw err;
        errors.push(err);
        const uid = uidOf(component);
        if (uid !== undefined) brokenUids.add(uid);
      }
    }
  }
  return { events, brokenUids, errors };
}

function floatingZone(names: ZoneNames, timezone: string | undefined): Zone | undefined {
  if (timezone === undefined) return undefined;
  const zone = names.find(timezone);
  if (!zone) throw new RangeError(`unknown time zone ${JSON.stringify(timezone)}`);
  return zone;
}

/** A cancellation as it is sent by mail (RFC 5546): its events need not say that they are cancelled. */
function isCancellation({ lines }: RawComponent): boolean {
  return lines.some(({ name, bytes }) => name === "METHOD" && /:\s*CANCEL\s*$/i.test(bytes));
}
