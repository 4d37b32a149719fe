/** Time as a dependency, so that tests decide what time it is. */
export interface Clock {
  /** Milliseconds since 1970, as people mean it. May jump. For schedules and timestamps only. */
  wallMs(): number;
  /** Milliseconds since an arbitrary moment; never jumps, never goes back. For deadlines and durations. */
  monotonicMs(): number;
  /** Calls back once after `delayMs` (at least 0) unless cleared. The timer keeps the process alive. */
  setTimer(callback: () => void, delayMs: number): Timer;
}

export interface Timer {
  clear(): void;
}

/** setTimeout fires at once above this many milliseconds (a 32-bit count), so longer waits go in steps. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer(callback, delayMs) {
    let handle: NodeJS.Timeout;
    const arm = (leftMs: number) => {
      const step = Math.min(Math.max(leftMs, 0), LONGEST_TIMEOUT_MS);
      handle = setTimeout(() => (leftMs > step ? arm(leftMs - step) : callback()), step);
    };
    arm(delayMs);
    return { clear: () => clearTimeout(handle) };
  },
};

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      timer.clear();
      reject(signal?.reason);
    };
    const timer = clock.setTimer(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
