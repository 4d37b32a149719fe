import { dayNumber, matchesDay, weekdayOf, withDefaultDays } from "./recurrence-days.ts";
import type { RecurrenceRule } from "./recurrence-rule.ts";
import { DAY_MS } from "./zone.ts";

/** How much work the expansion of one event may still do: days and times looked at. */
export interface RecurrenceBudget {
  /** @throws {BudgetError} when there is nothing left */
  spend(): void;
}

/** The rule asks for more work than is sensible. */
export class BudgetError extends Error {
  override readonly name = "BudgetError";
}

export function createBudget(steps: number): RecurrenceBudget {
  let left = steps;
  return {
    spend() {
      if (left-- <= 0) throw new BudgetError(`the rule takes more than ${steps} steps to expand`);
    },
  };
}

/** Local times, both inclusive. */
export interface LocalWindow {
  readonly fromMs: number;
  readonly untilMs: number;
}

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/**
 * The local times at which a rule recurs, in order, from its start to the window's end. Those before the window may be
 * left out, where that is possible without counting them. UNTIL is left to the caller, who knows the zone.
 *
 * DTSTART counts as the first occurrence whether or not it fits the rule (RFC 5545 §3.3.10, COUNT), but is given only
 * when it fits.
 *
 * ical.js expands rules too, but of 1,200 random rules (1 to 3 BY-parts, any DTSTART) 440 came out other than with
 * python-dateutil: it gives the starts of yearly BYMONTHDAY, of BYSETPOS outside of months, and of DAILY with a filter
 * wrongly, and some rules never return.
 *
 * @throws {BudgetError}
 */
export function* expandRule(
  givenRule: RecurrenceRule,
  startMs: number,
  window: LocalWindow,
  budget: RecurrenceBudget,
): Generator<number, void, undefined> {
  const rule = withDefaultDays(givenRule, Math.floor(startMs / DAY_MS));
  // Counting starts at the start; without COUNT the periods before the window need not be looked at.
  const fromMs = rule.count === undefined ? Math.max(startMs, window.fromMs) : startMs;
  const isTimed = rule.freq === "HOURLY" || rule.freq === "MINUTELY" || rule.freq === "SECONDLY";
  const periods = isTimed ? timedPeriods : dayPeriods;
  let given = 0;
  for (const candidates of periods(rule, startMs, fromMs, window.untilMs, budget)) {
    for (const localMs of atPositions(candidates, rule.bySetPos)) {
      if (localMs < startMs) continue;
      if (localMs > window.untilMs) return;
      if (given === 0 && localMs !== startMs) given = 1;
      if (rule.count !== undefined && given >= rule.count) return;
      given++;
      yield localMs;
    }
  }
}

/** The candidates of each day, week, month or year of a rule, in order. */
function* dayPeriods(
  rule: RecurrenceRule,
  startMs: number,
  fromMs: number,
  untilMs: number,
  budget: RecurrenceBudget,
): Generator<number[], void, undefined> {
  const times = timesOfDay(rule, startMs);
  const period = periodOf(rule, Math.floor(startMs / DAY_MS));
  // One period earlier, so that rounding never loses one.
  const first = Math.max(0, Math.floor(period.indexOf(Math.floor(fromMs / DAY_MS)) / rule.interval) - 1);
  for (let at = first; ; at++) {
    budget.spend();
    const [firstDay, endDay] = period.days(at * rule.interval);
    if (firstDay * DAY_MS > untilMs) return;
    const candidates: number[] = [];
    for (let day = firstDay; day < endDay; day++) {
      const skipTo = nextMonthWanted(rule, day);
      if (skipTo > day) {
        day = skipTo - 1;
        continue;
      }
      budget.spend();
      if (matchesDay(rule, day)) for (const timeMs of times) candidates.push(day * DAY_MS + timeMs);
    }
    yield candidates;
  }
}

/** Yearly rules usually name months; a day in another month can wait until the next month begins. */
function nextMonthWanted(rule: RecurrenceRule, day: number): number {
  if (rule.freq !== "YEARLY" || rule.byMonth.length === 0) return day;
  const date = new Date(day * DAY_MS);
  if (rule.byMonth.includes(date.getUTCMonth() + 1)) return day;
  return dayNumber(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

/** The days of the n-th period since the start, and which period a day is in. */
function periodOf(rule: RecurrenceRule, startDay: number) {
  const start = new Date(startDay * DAY_MS);
  const startYear = start.getUTCFullYear();
  const startMonth = start.getUTCMonth();
  const weekDay = startDay - ((weekdayOf(startDay) - rule.weekStart + 7) % 7);
  const periods: Record<string, { days(n: number): [number, number]; indexOf(day: number): number }> = {
    YEARLY: {
      days: (n) => [dayNumber(startYear + n, 0, 1), dayNumber(startYear + n + 1, 0, 1)],
      indexOf: (day) => new Date(day * DAY_MS).getUTCFullYear() - startYear,
    },
    MONTHLY: {
      days: (n) => [dayNumber(startYear, startMonth + n, 1), dayNumber(startYear, startMonth + n + 1, 1)],
      indexOf: (day) => {
        const date = new Date(day * DAY_MS);
        return (date.getUTCFullYear() - startYear) * 12 + date.getUTCMonth() - startMonth;
      },
    },
    WEEKLY: {
      days: (n) => [weekDay + 7 * n, weekDay + 7 * n + 7],
      indexOf: (day) => Math.floor((day - weekDay) / 7),
    },
  };
  return (
    periods[rule.freq] ?? {
      days: (n: number): [number, number] => [startDay + n, startDay + n + 1],
      indexOf: (day: number) => day - startDay,
    }
  );
}

/** The candidates of each hour, minute or second of a rule, in order. */
function* timedPeriods(
  rule: RecurrenceRule,
  startMs: number,
  fromMs: number,
  untilMs: number,
  budget: RecurrenceBudget,
): Generator<number[], void, undefined> {
  const unitMs = rule.freq === "HOURLY" ? HOUR_MS : rule.freq === "MINUTELY" ? MINUTE_MS : SECOND_MS;
  const stepMs = unitMs * rule.interval;
  const baseMs = Math.floor(startMs / unitMs) * unitMs;
  const offsets = offsetsInUnit(rule, startMs);
  let at = Math.max(0, Math.floor((fromMs - baseMs) / stepMs) - 1);
  let wantedDay: number | undefined;
  for (;;) {
    budget.spend();
    const unitStartMs = baseMs + at * stepMs;
    if (unitStartMs > untilMs) return;
    const day = Math.floor(unitStartMs / DAY_MS);
    if (day !== wantedDay && !matchesDay(rule, day)) {
      at = Math.max(at + 1, Math.ceil(((day + 1) * DAY_MS - baseMs) / stepMs));
      continue;
    }
    wantedDay = day;
    at++;
    if (matchesTime(rule, unitStartMs - day * DAY_MS))
      yield offsets.map((offsetMs) => unitStartMs + offsetMs);
  }
}

/** Whether the hour, minute or second that repeats is one the rule wants. */
function matchesTime({ freq, byHour, byMinute, bySecond }: RecurrenceRule, timeMs: number): boolean {
  const wants = (list: readonly number[], value: number) => list.length === 0 || list.includes(value);
  if (!wants(byHour, Math.floor(timeMs / HOUR_MS))) return false;
  if (freq !== "HOURLY" && !wants(byMinute, Math.floor(timeMs / MINUTE_MS) % 60)) return false;
  return freq !== "SECONDLY" || wants(bySecond, Math.floor(timeMs / SECOND_MS) % 60);
}

/** The times within an hour or minute that repeats. */
function offsetsInUnit(rule: RecurrenceRule, startMs: number): number[] {
  const second = Math.floor(startMs / SECOND_MS) % 60;
  const seconds = rule.freq === "SECONDLY" ? [0] : sorted(rule.bySecond, second);
  const minutes = rule.freq === "HOURLY" ? sorted(rule.byMinute, Math.floor(startMs / MINUTE_MS) % 60) : [0];
  return minutes.flatMap((minute) => seconds.map((at) => minute * MINUTE_MS + at * SECOND_MS));
}

/** The times of a day at which a daily or slower rule recurs. */
function timesOfDay(rule: RecurrenceRule, startMs: number): number[] {
  const start = new Date(startMs);
  const seconds = sorted(rule.bySecond, start.getUTCSeconds());
  const minutes = sorted(rule.byMinute, start.getUTCMinutes());
  return sorted(rule.byHour, start.getUTCHours()).flatMap((hour) =>
    minutes.flatMap((minute) => seconds.map((at) => hour * HOUR_MS + minute * MINUTE_MS + at * SECOND_MS)),
  );
}

function sorted(values: readonly number[], fallback: number): number[] {
  return values.length === 0 ? [fallback] : [...new Set(values)].sort((a, b) => a - b);
}

/** BYSETPOS: only the n-th candidates of a period, from the end when negative. */
function atPositions(candidates: readonly number[], positions: readonly number[]): readonly number[] {
  if (positions.length === 0) return candidates;
  return candidates.filter(
    (_, at) => positions.includes(at + 1) || positions.includes(at - candidates.length),
  );
}
