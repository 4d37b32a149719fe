import type { RawComponent } from "./components.ts";
import { displayNameOf } from "./identity.ts";
import { countParticipants } from "./participants.ts";
import { InputError } from "./problem.ts";
import {
  type CalendarDuration,
  type CalendarTime,
  durationOf,
  firstTime,
  instantOfTime,
  type Property,
  parameter,
  readProperty,
  textValue,
  timeOf,
  timesOf,
  type ZoneLookup,
} from "./property.ts";
import { type RecurrenceRule, readRule } from "./recurrence-rule.ts";

/** A VEVENT: a series, an event that does not recur, or (with `recurrenceId`) one changed instance of a series. */
export interface CalendarEvent {
  readonly uid: string;
  readonly line: number;
  readonly sequence: number;
  readonly displayName: string;
  readonly expectedParticipants: number;
  readonly cancelled: boolean;
  readonly start: CalendarTime;
  readonly length: CalendarDuration;
  /** It takes whole days. */
  readonly allDay: boolean;
  readonly rules: readonly RecurrenceRule[];
  readonly extraDates: readonly ExtraDate[];
  readonly excludedDates: readonly CalendarTime[];
  readonly recurrenceId: CalendarTime | undefined;
  /** It changes the instances that follow as well (RANGE=THISANDFUTURE). */
  readonly andFuture: boolean;
}

/** An RDATE; with a length of its own when it is a period. */
export interface ExtraDate {
  readonly start: CalendarTime;
  readonly length: CalendarDuration | undefined;
}

const READ = new Set(
  "UID SUMMARY DTSTART DTEND DURATION RRULE EXRULE RDATE EXDATE RECURRENCE-ID STATUS SEQUENCE ATTENDEE ORGANIZER X-MICROSOFT-CDO-ALLDAYEVENT".split(
    " ",
  ),
);

/** The UID of an event, as far as it can be read even when the rest is broken. */
export function uidOf(component: RawComponent): string | undefined {
  const line = component.lines.find(({ name }) => name === "UID");
  try {
    return (line && textValue(readProperty(line)).trim()) || undefined;
  } catch (err) {
    if (err instanceof InputError) return undefined;
    throw err;
  }
}

/** @throws {InputError} when the event cannot be understood */
export function readEvent(component: RawComponent, lookup: ZoneLookup): CalendarEvent {
  const [error] = component.errors;
  if (error) throw error;
  const properties = component.lines.filter(({ name }) => READ.has(name)).map(readProperty);
  const first = (name: string) => properties.find((property) => property.name === name);
  const all = (name: string) => properties.filter((property) => property.name === name);
  const uid = uidOf(component);
  if (uid === undefined) throw new InputError(component.line, "VEVENT without a UID");
  const [exRule] = all("EXRULE");
  if (exRule) throw new InputError(exRule.line, "EXRULE is not supported");
  const startProperty = first("DTSTART");
  if (!startProperty) throw new InputError(component.line, "VEVENT without a DTSTART");
  const start = firstTime(startProperty, lookup);
  const recurrenceId = first("RECURRENCE-ID");
  return {
    uid,
    line: component.line,
    sequence: Number(textOrEmpty(first("SEQUENCE"))) || 0,
    displayName: displayNameOf(textOrEmpty(first("SUMMARY"))),
    expectedParticipants: countParticipants(all("ATTENDEE"), first("ORGANIZER")),
    cancelled: textOrEmpty(first("STATUS")).toUpperCase() === "CANCELLED",
    start,
    length: lengthOf(start, first("DTEND"), first("DURATION"), lookup),
    allDay: start.isDate || textOrEmpty(first("X-MICROSOFT-CDO-ALLDAYEVENT")).toUpperCase() === "TRUE",
    rules: all("RRULE").map(readRule),
    extraDates: all("RDATE").flatMap((property) => extraDatesOf(property, lookup)),
    excludedDates: all("EXDATE").flatMap((property) => timesOf(property, lookup)),
    recurrenceId: recurrenceId && firstTime(recurrenceId, lookup),
    andFuture:
      recurrenceId !== undefined && parameter(recurrenceId, "range")?.toUpperCase() === "THISANDFUTURE",
  };
}

/** A DTEND gives every instance the same exact length, a DURATION the same nominal one (RFC 5545 §3.8.5.3). */
function lengthOf(
  start: CalendarTime,
  end: Property | undefined,
  duration: Property | undefined,
  lookup: ZoneLookup,
): CalendarDuration {
  if (!end) return duration ? positive(duration, durationOf(duration, duration.values[0])) : NO_LENGTH;
  return positive(end, { daysMs: 0, exactMs: instantOfTime(firstTime(end, lookup)) - instantOfTime(start) });
}

const NO_LENGTH: CalendarDuration = { daysMs: 0, exactMs: 0 };

function positive({ line, name }: Property, length: CalendarDuration): CalendarDuration {
  if (length.daysMs + length.exactMs < 0)
    throw new InputError(line, `${name}: the event ends before it starts`);
  return length;
}

function extraDatesOf(property: Property, lookup: ZoneLookup): ExtraDate[] {
  return property.values.map((value) => {
    if (!Array.isArray(value)) return { start: timeOf(property, value, lookup), length: undefined };
    const start = timeOf(property, value[0], lookup);
    if (String(value[1]).includes("P"))
      return { start, length: positive(property, durationOf(property, value[1])) };
    const exactMs = instantOfTime(timeOf(property, value[1], lookup)) - instantOfTime(start);
    return { start, length: positive(property, { daysMs: 0, exactMs }) };
  });
}

function textOrEmpty(property: Property | undefined): string {
  return property ? textValue(property) : "";
}
