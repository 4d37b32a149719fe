import type { Clock, Timer } from "./clock.ts";

/**
 * Wakes everyone who waits. Racing against one long-lived promise again and again would leave something behind each
 * time; giving up waiting for a pulse leaves nothing.
 */
export interface Pulse {
  /** Wakes all who wait now. */
  notify(): void;
  /** Resolves with what came first: the next pulse, `timeoutMs`, or the abort. Never rejects. */
  next(signal: AbortSignal, timeoutMs?: number): Promise<"pulse" | "timeout" | "aborted">;
}

export function createPulse(clock: Clock): Pulse {
  let waiting = new Set<() => void>();
  return {
    notify() {
      const woken = waiting;
      waiting = new Set();
      for (const wake of woken) wake();
    },
    next(signal, timeoutMs) {
      return new Promise((resolve) => {
        if (signal.aborted) return resolve("aborted");
        let timer: Timer | undefined;
        const settle = (outcome: "pulse" | "timeout" | "aborted") => {
          waiting.delete(wake);
          signal.removeEventListener("abort", onAbort);
          timer?.clear();
          resolve(outcome);
        };
        const wake = () => settle("pulse");
        const onAbort = () => settle("aborted");
        waiting.add(wake);
        signal.addEventListener("abort", onAbort, { once: true });
        if (timeoutMs !== undefined) timer = clock.setTimer(() => settle("timeout"), timeoutMs);
      });
    },
  };
}
