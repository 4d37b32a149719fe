import { InputError } from "./problem.ts";
import { isRecord, type Property, timeOf } from "./property.ts";
import { DAY_MS, instantOf, utcZone, type Zone } from "./zone.ts";

const FREQUENCIES = ["SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"] as const;
export type Frequency = (typeof FREQUENCIES)[number];

/** A day of the week: 0 is Sunday. `nth` counts in the month or year, from its end when negative; 0 is every one. */
export interface RuleDay {
  readonly weekday: number;
  readonly nth: number;
}

/** A recurrence rule (RFC 5545 §3.3.10). Lists that the rule does not have are empty. */
export interface RecurrenceRule {
  readonly freq: Frequency;
  readonly interval: number;
  readonly count: number | undefined;
  /** The last moment of a rule with UNTIL: an instant, or a local time in the zone of the event. */
  readonly until: { readonly ms: number; readonly isInstant: boolean } | undefined;
  /** 0 is Sunday. */
  readonly weekStart: number;
  readonly bySecond: readonly number[];
  readonly byMinute: readonly number[];
  readonly byHour: readonly number[];
  readonly byDay: readonly RuleDay[];
  readonly byMonthDay: readonly number[];
  readonly byYearDay: readonly number[];
  readonly byWeekNo: readonly number[];
  readonly byMonth: readonly number[];
  readonly bySetPos: readonly number[];
}

const WEEKDAYS = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
const RULE_DAY = /^([+-]?\d{1,2})?(SU|MO|TU|WE|TH|FR|SA)$/;

/** What ical.js puts into a rule, by the names of jCal. SKIP and RSCALE (RFC 7529) only as far as they change nothing. */
const KNOWN_PARTS = new Set(
  "freq interval count until wkst bysecond byminute byhour byday bymonthday byyearday byweekno bymonth bysetpos".split(
    " ",
  ),
);

/** @throws {InputError} when it is no rule, or one that is not supported */
export function readRule(property: Property): RecurrenceRule {
  const { line } = property;
  const [recur] = property.values;
  if (!isRecord(recur)) throw new InputError(line, "RRULE: not a recurrence rule");
  const freq = FREQUENCIES.find((name) => name === recur.freq);
  if (!freq) throw new InputError(line, "RRULE: FREQ is missing");
  for (const part of Object.keys(recur)) {
    if (KNOWN_PARTS.has(part) || part.startsWith("x-")) continue;
    if ((part === "rscale" && recur[part] === "GREGORIAN") || (part === "skip" && recur[part] === "OMIT"))
      continue;
    throw new InputError(line, `RRULE: the part ${part.toUpperCase()} is not supported`);
  }
  const count = recur.count === undefined ? undefined : Number(recur.count);
  if (count !== undefined && !(count >= 1)) throw new InputError(line, "RRULE: COUNT must be at least 1");
  const numbers = (part: string) => listOf(recur[part]).map(Number);
  return {
    freq,
    interval: Math.max(1, Number(recur.interval ?? 1)),
    count,
    until: recur.until === undefined ? undefined : untilOf(property, recur.until),
    weekStart: weekStartOf(recur.wkst),
    bySecond: numbers("bysecond"),
    byMinute: numbers("byminute"),
    byHour: numbers("byhour"),
    byDay: listOf(recur.byday).map((day) => ruleDay(String(day), line)),
    byMonthDay: numbers("bymonthday"),
    byYearDay: numbers("byyearday"),
    byWeekNo: numbers("byweekno"),
    byMonth: numbers("bymonth"),
    bySetPos: numbers("bysetpos"),
  };
}

/** Whether a rule with UNTIL still reaches a local time in the event's zone. */
export function reaches({ until }: RecurrenceRule, zone: Zone, localMs: number): boolean {
  if (!until) return true;
  return (until.isInstant ? instantOf(zone, localMs) : localMs) <= until.ms;
}

/** A date stands for the whole of that day, as the calendars that write one beside a DTSTART with a time mean it. */
function untilOf(property: Property, value: unknown) {
  const time = timeOf(property, value, () => utcZone);
  if (time.isDate) return { ms: time.localMs + DAY_MS - 1, isInstant: false };
  return { ms: time.localMs, isInstant: String(value).endsWith("Z") };
}

/** ical.js gives WKST as a number from 1 (Sunday); Monday is the default of RFC 5545. */
function weekStartOf(wkst: unknown): number {
  if (typeof wkst === "number") return (wkst + 6) % 7;
  const at = WEEKDAYS.indexOf(String(wkst));
  return at < 0 ? 1 : at;
}

function ruleDay(text: string, line: number): RuleDay {
  const match = RULE_DAY.exec(text);
  if (!match) throw new InputError(line, `RRULE: BYDAY has ${JSON.stringify(text)}`);
  return { weekday: WEEKDAYS.indexOf(match[2] ?? ""), nth: Number(match[1] ?? 0) };
}

function listOf(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
