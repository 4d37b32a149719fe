import type { Clock, Timer } from "../../common/clock.ts";

/** A pause that can be ended early. For one waiter at a time. */
export interface Waker {
  /** Resolves after `delayMs` or once woken; rejects with the signal's reason when it aborts first. */
  wait(delayMs: number, signal: AbortSignal): Promise<void>;
  /** Ends the wait under way, or the next one when nobody waits now. */
  wake(): void;
}

export function createWaker(clock: Clock): Waker {
  let woken = false;
  let end: (() => void) | undefined;
  return {
    async wait(delayMs, signal) {
      signal.throwIfAborted();
      let timer: Timer | undefined;
      try {
        await new Promise<void>((resolve) => {
          if (woken) return resolve();
          end = () => resolve();
          timer = clock.setTimer(resolve, delayMs);
          signal.addEventListener("abort", end, { once: true });
        });
      } finally {
        timer?.clear();
        if (end) signal.removeEventListener("abort", end);
        end = undefined;
        woken = false;
      }
      signal.throwIfAborted();
    },
    wake() {
      woken = true;
      end?.();
    },
  };
}
