import type { Client } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { durationFromMs } from "../../common/time.ts";
import type { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Epoch } from "./epoch.ts";
import type { Figures } from "./figures.ts";
import type { Pipeline } from "./pipeline.ts";

export interface TicksOptions {
  readonly dispatcherId: string;
  readonly epoch: Epoch;
  readonly client: Client<typeof DispatcherService>;
  readonly pipeline: Pipeline;
  readonly figures: Figures;
  /** Whether any server takes work: what cannot be placed is better not claimed. */
  readonly anyServer: () => boolean;
  readonly windowMs: number;
  readonly tickMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A replica answers from memory; a share of any size streams within this time. */
const QUERY_TIMEOUT_MS = 5_000;
const FETCH_TIMEOUT_MS = 10_000;

/** What one dispatcher takes on at a time: as much as the largest share it is likely to have. */
const MAX_IN_HAND = 10_000;

/** After this many ticks with nothing due, every dispatcher's last commits are in the figures. */
const QUIET_TICKS = 2;

/** While nothing is due the figures change only by what ends, which is worth a seldom look. */
const QUIET_REFRESH_MS = 10_000;

/** Dispatchers started together do not tick together: a tick takes up to this part more or less. */
const TICK_JITTER = 0.1;

/**
 * Each tick asks for the total and takes the share that is left, until the signal aborts or the epoch ends. A FetchTasks
 * waits a tick for tasks when there are none, so that what falls due is taken at once.
 */
export async function runTicks(options: TicksOptions, stop: AbortSignal): Promise<void> {
  const { dispatcherId, epoch, client, pipeline, figures, anyServer, windowMs, tickMs, clock, logger } =
    options;
  const signal = AbortSignal.any([stop, epoch.signal]);
  const backoff = createBackoff({ initialMs: tickMs / 2 });
  const window = durationFromMs(windowMs);
  let logged = "";
  let idle = false;
  let quietTicks = 0;

  async function queryTotal() {
    epoch.assertValid();
    const answer = await client.queryTotal({ dispatcherId, window }, { signal, timeoutMs: QUERY_TIMEOUT_MS });
    const { total, dispatcherCount, rank, share } = answer;
    pipeline.setPlace({ dispatcherCount, rank });
    const text = [total, dispatcherCount, rank, share].join();
    if (text !== logged) logger.info({ total, dispatcherCount, rank, share }, "share changed");
    logged = text;
    quietTicks = total === 0 ? quietTicks + 1 : 0;
  }

  /** Gives how many tasks were new. */
  async function fetchTasks(): Promise<number> {
    epoch.assertValid();
    let fresh = 0;
    const request = {
      dispatcherId,
      epoch: epoch.epoch,
      window,
      maxTasks: MAX_IN_HAND,
      wait: durationFromMs(tickMs),
    };
    for await (const { tasks } of client.fetchTasks(request, {
      signal,
      timeoutMs: Math.ceil(tickMs) + FETCH_TIMEOUT_MS,
    })) {
      fresh += pipeline.submit(tasks);
    }
    return fresh;
  }

  while (!signal.aborted) {
    const startedAtMs = clock.monotonicMs();
    let restMs = tickMs * (1 - TICK_JITTER + 2 * TICK_JITTER * Math.random());
    try {
      await queryTotal();
      await figures.refresh(quietTicks > QUIET_TICKS ? QUIET_REFRESH_MS : tickMs, signal);
      const ready = anyServer();
      if (ready === idle) {
        idle = !ready;
        if (idle) logger.warn("no conference server takes work; waiting for one");
      }
      // What is sent again comes on top of what is in hand, so that at most 1.5 times the bound is held.
      if (ready && pipeline.size <= MAX_IN_HAND / 2 && (await fetchTasks()) > 0) restMs = 0;
      backoff.reset();
    } catch (err) {
      if (signal.aborted || epoch.endedBy(err)) return;
      logger.warn({ err }, "tick failed");
      restMs = Math.max(restMs, backoff.nextMs());
    }
    await sleep(clock, Math.max(0, restMs - (clock.monotonicMs() - startedAtMs)), signal).catch(() => {});
  }
}
