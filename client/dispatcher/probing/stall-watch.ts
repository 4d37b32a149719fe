/** Notices that this process itself stood still: paused, starved of CPU, or busy in one turn of its event loop. */
export interface StallWatch {
  /**
   * To be called whenever something happens, first of all, and in any case several times within the limit. Gives how long
   * the process has stood still since the last call; 0 when it has not.
   */
  stalledMs(nowMs: number): number;
}

/** @param limitMs the longest time without a sign of life that is no stall */
export function createStallWatch(nowMs: number, limitMs: number): StallWatch {
  let aliveAtMs = nowMs;
  return {
    stalledMs(atMs) {
      const gapMs = atMs - aliveAtMs;
      aliveAtMs = Math.max(aliveAtMs, atMs);
      return gapMs > limitMs ? gapMs : 0;
    },
  };
}
