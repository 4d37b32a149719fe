import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";

/** Counters since the dispatcher started. */
export interface DispatcherStats {
  /** Tasks received. */
  claimed: number;
  /** Conferences started on agents. */
  started: number;
  /** Starts that an agent refused or did not answer. */
  startFailures: number;
  /** Dispatches written. */
  committed: number;
  /** Dispatches that the control plane refused. */
  rejected: number;
  /** Tasks given back. */
  released: number;
}

export function createStats(): DispatcherStats {
  return { claimed: 0, started: 0, startFailures: 0, committed: 0, rejected: 0, released: 0 };
}

/** Often enough to follow, seldom enough for a log that is kept. */
const LOG_INTERVAL_MS = 10_000;

/** Logs the counters when they have changed, until the signal aborts and once more then. */
export async function logStats(
  stats: Readonly<DispatcherStats>,
  clock: Clock,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  let logged = JSON.stringify(createStats());
  const log = () => {
    const now = JSON.stringify(stats);
    if (now !== logged) logger.info({ ...stats }, "work done");
    logged = now;
  };
  while (!signal.aborted) {
    await sleep(clock, LOG_INTERVAL_MS, signal).catch(() => {});
    log();
  }
}
