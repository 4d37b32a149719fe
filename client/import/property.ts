import ICAL from "ical.js";
import { type ContentLine, textOf } from "./content-lines.ts";
import { InputError } from "./problem.ts";
import { DAY_MS, instantOf, utcZone, type Zone } from "./zone.ts";

/** A property, read by ical.js into jCal (RFC 7265). */
export interface Property {
  readonly name: string;
  readonly line: number;
  /** Parameters, under their names in lower case. */
  readonly params: Readonly<Record<string, unknown>>;
  readonly values: readonly unknown[];
}

/** A date or a local date-time, and the zone that makes it an instant. */
export interface CalendarTime {
  /** See `Zone` for what a local time is; midnight for a date. */
  readonly localMs: number;
  readonly isDate: boolean;
  readonly zone: Zone;
}

/** Gives the zone of a TZID; without one, the zone in which floating times are read. Throws InputError. */
export type ZoneLookup = (tzid: string | undefined, line: number) => Zone;

/** Rules are compared without regard to case by RFC 5545, but not by ical.js. */
const UPPER_CASE = new Set(["RRULE", "EXRULE", "DURATION"]);

/** @throws {InputError} */
export function readProperty(content: ContentLine): Property {
  const text = textOf(content);
  let jcal: unknown;
  try {
    jcal = ICAL.parse.property(UPPER_CASE.has(content.name) ? text.toUpperCase() : text);
  } catch (err) {
    throw new InputError(
      content.line,
      `${content.name}: ${err instanceof Error ? err.message : String(err)}`,
    );
  }
  if (!Array.isArray(jcal)) throw new InputError(content.line, `${content.name}: not a property`);
  const [, params, , ...values] = jcal as [unknown, unknown, unknown, ...unknown[]];
  return { name: content.name, line: content.line, params: isRecord(params) ? params : {}, values };
}

/** The parameter in lower or upper case as it was given; undefined when it is missing or has several values. */
export function parameter(property: Property, name: string): string | undefined {
  const value = property.params[name];
  return typeof value === "string" ? value : undefined;
}

/** The first value as text; numbers are written out. */
export function textValue({ values }: Property): string {
  const [value] = values;
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

/** All times of a property; of periods, their starts. */
export function timesOf(property: Property, lookup: ZoneLookup): CalendarTime[] {
  return property.values.map((value) => timeOf(property, Array.isArray(value) ? value[0] : value, lookup));
}

/** The first time of a property. */
export function firstTime(property: Property, lookup: ZoneLookup): CalendarTime {
  return timeOf(property, property.values[0], lookup);
}

const TIME = /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2}):(\d{2})(Z?))?$/;

/** @throws {InputError} when the value is no date or date-time, or its TZID is unknown */
export function timeOf(property: Property, value: unknown, lookup: ZoneLookup): CalendarTime {
  const { line, name } = property;
  const match = TIME.exec(String(value));
  if (!match) throw new InputError(line, `${name}: not a date or date-time`);
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const isDate = match[4] === undefined;
  const dayMs = Date.UTC(year, month - 1, day);
  if (new Date(dayMs).getUTCDate() !== day || month < 1 || month > 12)
    throw new InputError(line, `${name}: there is no such day as ${match[1]}-${match[2]}-${match[3]}`);
  if (!isDate && (hour > 23 || minute > 59 || second > 60))
    throw new InputError(line, `${name}: there is no such time as ${match[4]}:${match[5]}:${match[6]}`);
  // A leap second is the second before it: clocks here have none.
  const timeMs = isDate ? 0 : (hour * 3600 + minute * 60 + Math.min(second, 59)) * 1000;
  const zone = match[7] === "Z" ? utcZone : lookup(parameter(property, "tzid"), line);
  return { localMs: dayMs + timeMs, isDate, zone };
}

/** The instant of a time; of a date, of its first moment. */
export function instantOfTime({ zone, localMs }: CalendarTime): number {
  return instantOf(zone, localMs);
}

/** A duration: days count in local time, the rest as time that passes (RFC 5545 §3.3.6). */
export interface CalendarDuration {
  readonly daysMs: number;
  readonly exactMs: number;
}

const DURATION = /^([+-]?)P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/;

/** @throws {InputError} when the value is no duration */
export function durationOf({ name, line }: Property, value: unknown): CalendarDuration {
  const match = DURATION.exec(String(value));
  if (!match || !/\d/.test(match[0])) throw new InputError(line, `${name}: not a duration`);
  const sign = match[1] === "-" ? -1 : 1;
  const [weeks = 0, days = 0, hours = 0, minutes = 0, seconds = 0] = match
    .slice(2)
    .map((n) => Number(n ?? 0));
  return {
    daysMs: sign * (weeks * 7 + days) * DAY_MS,
    exactMs: sign * (hours * 3600 + minutes * 60 + seconds) * 1000,
  };
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
