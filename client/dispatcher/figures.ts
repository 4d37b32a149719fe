import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";

/** When the units reserved on the servers are read again: no watch tells them. */
export interface Figures {
  /**
   * Reads them when they are older than this or known to be wrong. A failure is logged: planning goes on with what is
   * known, and the control plane refuses what does not fit.
   */
  refresh(maxAgeMs: number, signal: AbortSignal): Promise<void>;
  /** The control plane has shown that they are wrong. */
  markWrong(): void;
}

export interface FiguresOptions {
  /** Reads them into the table. */
  readonly read: (signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function createFigures({ read, clock, logger }: FiguresOptions): Figures {
  let readAtMs = Number.NEGATIVE_INFINITY;
  let wrong = false;
  return {
    async refresh(maxAgeMs, signal) {
      const nowMs = clock.monotonicMs();
      if (!wrong && nowMs - readAtMs < maxAgeMs) return;
      try {
        wrong = false;
        await read(signal);
        readAtMs = nowMs;
      } catch (err) {
        wrong = true;
        if (!signal.aborted) logger.warn({ err }, "could not read what is reserved on the servers");
      }
    },
    markWrong() {
      wrong = true;
    },
  };
}
