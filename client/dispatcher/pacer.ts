import { type Clock, sleep } from "../../common/clock.ts";

/** Spreads items over time, first come, first served. */
export interface Pacer {
  /** How many items to take at once at most. */
  readonly largestTake: number;
  /** Resolves when this many items may go; rejects with the signal's reason when it aborts first. */
  take(count: number, signal: AbortSignal): Promise<void>;
}

/** What may go at once after a pause, as time at the full rate: enough for batches, too little to be a burst. */
const BURST_MS = 250;

/**
 * A token bucket on the monotonic clock.
 * @param ratePerSecond items per second; infinite for no limit
 */
export function createPacer(ratePerSecond: number, clock: Clock): Pacer {
  if (!Number.isFinite(ratePerSecond)) {
    return { largestTake: Number.POSITIVE_INFINITY, take: async (_count, signal) => signal.throwIfAborted() };
  }
  const msPerItem = 1_000 / ratePerSecond;
  const largestTake = Math.max(1, Math.floor(BURST_MS / msPerItem));
  // When the bucket is full again if nothing more is taken.
  let fullAtMs = clock.monotonicMs();
  return {
    largestTake,
    async take(count, signal) {
      const nowMs = clock.monotonicMs();
      fullAtMs = Math.max(fullAtMs, nowMs) + count * msPerItem;
      const waitMs = fullAtMs - largestTake * msPerItem - nowMs;
      if (waitMs > 0) await sleep(clock, waitMs, signal);
      else signal.throwIfAborted();
    },
  };
}
