import type { Clock } from "../../common/clock.ts";

/** A clock that stands still until it is told to go on. */
export interface FakeClock extends Clock {
  /** Moves both clocks on, firing timers in order of their time and letting promises settle between them. */
  advance(ms: number): Promise<void>;
  /** Moves the wall clock alone, as an administrator or NTP does. */
  jumpWall(ms: number): void;
  /** Resolves once at least `count` timers are armed. */
  armed(count?: number): Promise<void>;
  /** How many timers are armed now. */
  readonly pending: number;
}

/** Enough turns of the event loop for chains of promises and I/O callbacks in memory to run dry. */
async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** @param startMs the wall clock's first value, in milliseconds since 1970 */
export function createFakeClock(startMs = Date.UTC(2030, 0, 1)): FakeClock {
  let nowMs = 0;
  let wallOffsetMs = startMs;
  let sequence = 0;
  const timers = new Map<number, { atMs: number; callback: () => void }>();
  let waiters: { count: number; resolve: () => void }[] = [];
  const clock: FakeClock = {
    wallMs: () => nowMs + wallOffsetMs,
    monotonicMs: () => nowMs,
    setTimer(callback, delayMs) {
      const id = sequence++;
      timers.set(id, { atMs: nowMs + Math.max(0, delayMs), callback });
      waiters = waiters.filter((waiter) => {
        if (timers.size < waiter.count) return true;
        waiter.resolve();
        return false;
      });
      return { clear: () => timers.delete(id) };
    },
    async advance(ms) {
      const untilMs = nowMs + ms;
      await settle();
      for (;;) {
        let next: [number, { atMs: number; callback: () => void }] | undefined;
        for (const entry of timers) if (!next || entry[1].atMs < next[1].atMs) next = entry;
        if (!next || next[1].atMs > untilMs) break;
        timers.delete(next[0]);
        nowMs = next[1].atMs;
        next[1].callback();
        await settle();
      }
      nowMs = untilMs;
    },
    jumpWall(ms) {
      wallOffsetMs += ms;
    },
    armed(count = 1) {
      if (timers.size >= count) return Promise.resolve();
      return new Promise((resolve) => waiters.push({ count, resolve }));
    },
    get pending() {
      return timers.size;
    },
  };
  return clock;
}
