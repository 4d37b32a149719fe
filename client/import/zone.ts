/**
 * A time zone. Local times are written as milliseconds since 1970 of a clock that shows them in UTC, so that arithmetic
 * on days and hours needs no zone.
 */
export interface Zone {
  /** How far local time is ahead of UTC at an instant, in milliseconds. */
  offsetMsAt(utcMs: number): number;
}

export const DAY_MS = 86_400_000;

export const utcZone: Zone = { offsetMsAt: () => 0 };

/**
 * The instant of a local time. By RFC 5545 §3.3.5 a time that occurs twice means the first, and one that the clock skips
 * is read with the offset in force before the gap.
 */
export function instantOf(zone: Zone, localMs: number): number {
  // Offsets are less than a day, so these two lie on either side of any change that matters.
  const before = zone.offsetMsAt(localMs - DAY_MS);
  const after = zone.offsetMsAt(localMs + DAY_MS);
  if (before === after) return localMs - before;
  const early = localMs - before;
  if (zone.offsetMsAt(early) === before) return early;
  const late = localMs - after;
  return zone.offsetMsAt(late) === after ? late : early;
}

/** The local time at an instant. */
export function localOf(zone: Zone, utcMs: number): number {
  return utcMs + zone.offsetMsAt(utcMs);
}
