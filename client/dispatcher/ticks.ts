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

/** So many ticks at the beginning of a quiet time see the last of what the dispatchers have placed. */
const SETTLING_TICKS = 3;

/**
 * What is reserved is read in each of these ticks, and otherwise only when it is this old. While conferences are being
 * placed the figures hold a random part of each dispatcher's work, and planning by them would tilt what is even. What
 * ends changes them slowly.
 */
const FIGURES_MAX_AGE_MS = 5_000;

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
  let settling = 0;

  /** Gives whether all that was due has just been placed. */
  async function queryTotal(): Promise<boolean> {
    epoch.assertValid();
    const answer = await client.queryTotal({ dispatcherId, window }, { signal, timeoutMs: QUERY_TIMEOUT_MS });
    const { total, dispatcherCount, rank, share } = answer;
    pipeline.setPlace(answer);
    const text = [total, dispatcherCount, rank, share].join();
    if (text !== logged) logger.debug({ total, dispatcherCount, rank, share }, "share changed");
    logged = text;
    settling = total > 0 ? SETTLING_TICKS : Math.max(0, settling - 1);
    return total === 0 && settling > 0;
  }

  /** Waits so long for tasks when there are none; gives how many were new. */
  async function fetchTasks(waitMs: number): Promise<number> {
    epoch.assertValid();
    let fresh = 0;
    const request = {
      dispatcherId,
      epoch: epoch.epoch,
      window,
      maxTasks: MAX_IN_HAND,
      wait: durationFromMs(waitMs),
    };
    for await (const { tasks } of client.fetchTasks(request, {
      signal,
      timeoutMs: Math.ceil(waitMs) + FETCH_TIMEOUT_MS,
    })) {
      fresh += pipeline.submit(tasks);
    }
    return fresh;
  }

  /** FetchTasks does not wait while there is work in hand, and more may be had once that is placed. */
  async function rest(ms: number) {
    const over = new AbortController();
    const resting = sleep(clock, ms, AbortSignal.any([signal, over.signal])).catch(() => {});
    await (pipeline.size > 0 ? Promise.race([resting, pipeline.idle()]) : resting);
    over.abort();
  }

  while (!signal.aborted) {
    const startedAtMs = clock.monotonicMs();
    let restMs = tickMs * (1 - TICK_JITTER + 2 * TICK_JITTER * Math.random());
    try {
      const settled = await queryTotal();
      await figures.refresh(settled ? tickMs : FIGURES_MAX_AGE_MS, signal);
      const ready = anyServer();
      if (ready === idle) {
        idle = !ready;
        if (idle) logger.warn("no conference server takes work; waiting for one");
      }
      // What is sent again comes on top of what is in hand, so that at most 1.5 times the bound is held.
      // It waits out the whole rest: what falls due, or is lost with a server, is taken at once.
      if (ready && pipeline.size <= MAX_IN_HAND / 2 && (await fetchTasks(restMs)) > 0) restMs = 0;
      backoff.reset();
    } catch (err) {
      if (signal.aborted || epoch.endedBy(err)) return;
      logger.warn({ err }, "tick failed");
      restMs = Math.max(restMs, backoff.nextMs());
    }
    await rest(Math.max(0, restMs - (clock.monotonicMs() - startedAtMs)));
  }
}
