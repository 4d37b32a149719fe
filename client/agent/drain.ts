import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { durationFromMs } from "../../common/time.ts";
import type { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import type { HostedConferences } from "./hosted.ts";

/**
 * How a drain ended: nothing is left, and the server was open before; the same, and an operator had cordoned it before; or
 * conferences may be left.
 */
export type DrainOutcome = "done" | "done, was cordoned" | "not done";

export interface DrainOptions {
  readonly servers: Pick<Client<typeof ServerService>, "drainServer" | "getServer">;
  readonly serverId: string;
  /** How long conferences may go on to end by themselves before they are moved. */
  readonly deadlineMs: number;
  /** How long it may all take. */
  readonly timeoutMs: number;
  readonly hosted: Pick<HostedConferences, "count" | "unitsInUse">;
  readonly logger: Logger;
  readonly clock: Clock;
}

const CALL_TIMEOUT_MS = 5_000;
const LOOK_INTERVAL_MS = 100;

/**
 * Has the control plane empty this server, and resolves when the agent may stop: nothing is hosted any more, the time is up,
 * or the control plane knows no drains. Once the drain has begun nothing new is committed here, so an empty list says
 * that every conference has its place elsewhere. Rejects only when the signal aborts.
 */
export async function runDrain(options: DrainOptions, signal: AbortSignal): Promise<DrainOutcome> {
  const { serverId, deadlineMs, timeoutMs, hosted, logger, clock } = options;
  const untilMs = clock.monotonicMs() + timeoutMs;
  logger.info({ serverId, conferences: hosted.count, deadlineMs, timeoutMs }, "draining before the stop");
  try {
    const begun = await beginDrain(options, untilMs, signal);
    if (!begun) return "not done";
    // Units are in use from the moment a start begins.
    while (hosted.unitsInUse > 0) {
      if (clock.monotonicMs() >= untilMs) {
        logger.warn({ serverId, conferences: hosted.count }, "drain took too long; conferences are left");
        return "not done";
      }
      await sleep(clock, LOOK_INTERVAL_MS, signal);
    }
    logger.info({ serverId }, "drained");
    return begun.wasCordoned ? "done, was cordoned" : "done";
  } catch (err) {
    logger.warn({ serverId, conferences: hosted.count }, "drain broken off; conferences are left");
    throw err;
  }
}

/** Resolves with undefined when there is no drain to wait for. */
async function beginDrain(
  options: DrainOptions,
  untilMs: number,
  signal: AbortSignal,
): Promise<{ readonly wasCordoned: boolean } | undefined> {
  const { servers, serverId, deadlineMs, hosted, logger, clock } = options;
  const backoff = createBackoff({ initialMs: 200, maxMs: 2_000 });
  const callOptions = { signal, timeoutMs: CALL_TIMEOUT_MS };
  let wasCordoned: boolean | undefined;
  for (;;) {
    try {
      // Read once: an attempt whose answer was lost has cordoned it as well.
      wasCordoned ??= (await servers.getServer({ serverId }, callOptions)).server?.cordoned ?? false;
      await servers.drainServer({ serverId, deadline: durationFromMs(deadlineMs) }, callOptions);
      return { wasCordoned };
    } catch (err) {
      signal.throwIfAborted();
      const fields = { err, serverId, conferences: hosted.count };
      if (ConnectError.from(err).code === Code.Unimplemented) {
        logger.warn(fields, "the control plane knows no drains; stopping at once");
        return undefined;
      }
      // Nobody loses anything, and the control plane will see that the server is gone.
      if (hosted.unitsInUse === 0) return undefined;
      if (clock.monotonicMs() >= untilMs) {
        logger.warn(fields, "could not drain; conferences are left");
        return undefined;
      }
      logger.warn(fields, "cannot begin to drain; trying again");
      await sleep(clock, backoff.nextMs(), signal);
    }
  }
}

export interface ForgetDrainedOptions {
  readonly servers: Pick<Client<typeof ServerService>, "removeServer" | "uncordonServer">;
  readonly serverId: string;
  readonly logger: Logger;
}

/**
 * Leaves nothing behind of a server that has drained itself and stops: it would be held to be down, count among the failing
 * ones, and be closed to conferences when it comes back. Never rejects.
 */
export async function forgetDrained({ servers, serverId, logger }: ForgetDrainedOptions): Promise<void> {
  const callOptions = { timeoutMs: CALL_TIMEOUT_MS };
  try {
    await servers.removeServer({ serverId }, callOptions);
  } catch (err) {
    logger.info({ err, serverId }, "the control plane keeps the drained server");
    try {
      await servers.uncordonServer({ serverId }, callOptions);
    } catch (cordonErr) {
      logger.warn(
        { err: cordonErr, serverId },
        "the drained server stays cordoned; uncordon it to use it again",
      );
    }
  }
}

export interface UntilDrainedOptions {
  readonly servers: Pick<Client<typeof ServerService>, "getServer">;
  readonly serverId: string;
  readonly hosted: Pick<HostedConferences, "unitsInUse">;
  /** Whether the server was seen without a drain that is done, since this agent began. */
  readonly wasOpen: () => boolean;
  readonly clock: Clock;
}

const POLL_INTERVAL_MS = 2_000;

/**
 * Resolves when an operator's drain of this server is done. One that was done before this agent began does not count, or
 * an agent that is started again after a drain would end at once, for ever. Rejects only when the signal aborts.
 */
export async function untilDrained(options: UntilDrainedOptions, signal: AbortSignal): Promise<void> {
  const { servers, serverId, hosted, wasOpen, clock } = options;
  for (;;) {
    await sleep(clock, POLL_INTERVAL_MS, signal);
    if (hosted.unitsInUse > 0 || !wasOpen()) continue;
    try {
      const { server } = await servers.getServer({ serverId }, { signal, timeoutMs: CALL_TIMEOUT_MS });
      if (server?.drain?.done && hosted.unitsInUse === 0) return;
    } catch {
      // The control plane is away: nothing is known to be done.
      signal.throwIfAborted();
    }
  }
}
