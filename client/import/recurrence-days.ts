import type { RecurrenceRule } from "./recurrence-rule.ts";
import { DAY_MS } from "./zone.ts";

/** The number of a day since 1970. */
export function dayNumber(year: number, month: number, day: number): number {
  return Date.UTC(year, month, day) / DAY_MS;
}

/** 0 is Sunday. The first of January 1970 was a Thursday. */
export function weekdayOf(day: number): number {
  return (((day + 4) % 7) + 7) % 7;
}

/**
 * The rule with what RFC 5545 has it take from DTSTART: the day of the month, of the week or of the year when no part of
 * the rule says which days.
 */
export function withDefaultDays(rule: RecurrenceRule, startDay: number): RecurrenceRule {
  const { byWeekNo, byYearDay, byMonthDay, byDay } = rule;
  if (byYearDay.length > 0 || byMonthDay.length > 0 || byDay.length > 0) return rule;
  const start = new Date(startDay * DAY_MS);
  const sameWeekday = { ...rule, byDay: [{ weekday: weekdayOf(startDay), nth: 0 }] };
  const sameMonthDay = { ...rule, byMonthDay: [start.getUTCDate()] };
  if (rule.freq === "WEEKLY" || (rule.freq === "YEARLY" && byWeekNo.length > 0)) return sameWeekday;
  if (rule.freq === "MONTHLY") return sameMonthDay;
  if (rule.freq !== "YEARLY") return rule;
  return rule.byMonth.length > 0 ? sameMonthDay : { ...sameMonthDay, byMonth: [start.getUTCMonth() + 1] };
}

/** Whether a day passes the parts of a rule that choose days (the table in RFC 5545 §3.3.10). */
export function matchesDay(rule: RecurrenceRule, day: number): boolean {
  const date = new Date(day * DAY_MS);
  const year = date.getUTCFullYear();
  const month = date.getUTCMonth();
  if (rule.byMonth.length > 0 && !rule.byMonth.includes(month + 1)) return false;
  const monthStart = dayNumber(year, month, 1);
  const monthDays = dayNumber(year, month + 1, 1) - monthStart;
  if (!matchesCount(rule.byMonthDay, day - monthStart, monthDays)) return false;
  const yearStart = dayNumber(year, 0, 1);
  const yearDays = dayNumber(year + 1, 0, 1) - yearStart;
  if (!matchesCount(rule.byYearDay, day - yearStart, yearDays)) return false;
  if (rule.byWeekNo.length > 0 && !matchesWeek(rule, day)) return false;
  if (rule.byDay.length === 0) return true;
  const inMonth = rule.freq === "MONTHLY" || (rule.freq === "YEARLY" && rule.byMonth.length > 0);
  const at = inMonth ? day - monthStart : day - yearStart;
  const length = inMonth ? monthDays : yearDays;
  const weekday = weekdayOf(day);
  return rule.byDay.some((wanted) => {
    if (wanted.weekday !== weekday) return false;
    // Only months and years count their weekdays.
    if (wanted.nth === 0 || (rule.freq !== "MONTHLY" && rule.freq !== "YEARLY")) return true;
    return wanted.nth > 0
      ? Math.floor(at / 7) + 1 === wanted.nth
      : Math.floor((length - 1 - at) / 7) + 1 === -wanted.nth;
  });
}

/** `at` counts from 0; the wanted numbers from 1, or back from -1 at the end. */
function matchesCount(wanted: readonly number[], at: number, length: number): boolean {
  return wanted.length === 0 || wanted.includes(at + 1) || wanted.includes(at - length);
}

/** A week belongs to the year in which most of its days lie (ISO 8601, from the rule's first day of the week). */
function matchesWeek(rule: RecurrenceRule, day: number): boolean {
  const { week, year } = weekOf(day, rule.weekStart);
  const weeks = weekOf(dayNumber(year, 11, 28), rule.weekStart).week;
  return rule.byWeekNo.includes(week) || rule.byWeekNo.includes(week - weeks - 1);
}

function weekOf(day: number, weekStart: number) {
  const middle = day - ((weekdayOf(day) - weekStart + 7) % 7) + 3;
  const year = new Date(middle * DAY_MS).getUTCFullYear();
  return { year, week: Math.floor((middle - dayNumber(year, 0, 1)) / 7) + 1 };
}
