/** Notices that this process itself stood still: paused, starved of CPU, or busy in one turn of its event loop. */
export interface StallWatch {
  /**
   * To be called whenever something happens, first of all; at least every `beatMs`. Tells whether the process has stood
   * still since the last call.
   */
  stalled(nowMs: number): boolean;
}

/** @param limitMs the longest time without a sign of life that is no stall */
export function createStallWatch(nowMs: number, limitMs: number): StallWatch {
  let aliveAtMs = nowMs;
  return {
    stalled(atMs) {
      const gapMs = atMs - aliveAtMs;
      aliveAtMs = Math.max(aliveAtMs, atMs);
      return gapMs > limitMs;
    },
  };
}
