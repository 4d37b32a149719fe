import { stripVTControlCharacters } from "node:util";
import { type Duration, durationMs, type Timestamp, timestampMs } from "../../common/time.ts";

/** What an empty cell shows, so that columns stay countable for programs like awk. */
export const EMPTY_CELL = "-";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A length of time to two digits or so, in one unit: `45s`, `90s`, `5m`, `26h`, `3d`. */
export function shortDuration(ms: number): string {
  if (ms < 2 * MINUTE_MS) return `${Math.max(0, Math.floor(ms / SECOND_MS))}s`;
  if (ms < 2 * HOUR_MS) return `${Math.floor(ms / MINUTE_MS)}m`;
  if (ms < 2 * DAY_MS) return `${Math.floor(ms / HOUR_MS)}h`;
  return `${Math.floor(ms / DAY_MS)}d`;
}

/** How long ago it was, e.g. `5m`. */
export function ageCell(time: Timestamp | undefined, nowMs: number): string {
  return time ? shortDuration(nowMs - timestampMs(time)) : EMPTY_CELL;
}

/** An instant in UTC, to the second. */
export function timeCell(time: Timestamp | undefined): string {
  return time ? isoSeconds(timestampMs(time)) : EMPTY_CELL;
}

/** An instant of the wall clock in UTC, to the second. */
export function isoSeconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** The time from one instant to another. */
export function spanCell(from: Timestamp | undefined, until: Timestamp | undefined): string {
  return from && until ? shortDuration(timestampMs(until) - timestampMs(from)) : EMPTY_CELL;
}

export function durationCell(duration: Duration | undefined): string {
  return duration ? `${durationMs(duration) / SECOND_MS}s` : EMPTY_CELL;
}

/** Labels as `a=1,b=2`, in order of their keys. */
export function labelsCell(labels: Readonly<Record<string, string>>): string {
  const entries = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return textCell(entries.map(([key, value]) => `${key}=${value}`).join(","));
}

/** A text from elsewhere on one line, without what a terminal would obey. */
export function textCell(text: string): string {
  const clean = stripVTControlCharacters(text)
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]+/gu, " ")
    .trim();
  return clean === "" ? EMPTY_CELL : clean;
}
