import type { CalendarInstance } from "./instance.ts";

export interface ShiftOptions {
  /** When the first of them starts; milliseconds since 1970. */
  readonly startMs: number;
  /** The last of them starts this long after the first, or all at once when 0. */
  readonly spanMs: number;
  /** No conference is shorter afterwards. Default: 0. */
  readonly minLengthMs?: number;
}

/**
 * Brings instances from wherever they are in a calendar to one stretch of time, such as the next minute: they start in
 * the same order and with their distances in proportion, and last as long as before. Cancelled ones are left out. The IDs
 * stay, so doing it again reschedules the same conferences.
 */
export function bringTo(
  instances: readonly CalendarInstance[],
  { startMs, spanMs, minLengthMs = 0 }: ShiftOptions,
): CalendarInstance[] {
  const live = instances.filter(({ cancelled }) => !cancelled).sort((a, b) => a.startMs - b.startMs);
  const firstMs = live[0]?.startMs ?? 0;
  const givenSpanMs = (live.at(-1)?.startMs ?? 0) - firstMs;
  const scale = givenSpanMs === 0 ? 0 : spanMs / givenSpanMs;
  return live.map((instance) => {
    const newStartMs = startMs + Math.round((instance.startMs - firstMs) * scale);
    const lengthMs = Math.max(minLengthMs, instance.endMs - instance.startMs);
    return { ...instance, startMs: newStartMs, endMs: newStartMs + lengthMs };
  });
}
