import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { durationFromMs } from "../../common/time.ts";
import type { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import type { HostedConferences } from "./hosted.ts";

export interface DrainOptions {
  readonly servers: Pick<Client<typeof ServerService>, "drainServer">;
  readonly serverId: string;
  /** How long conferences may go on to end by themselves before they are moved. */
  readonly deadlineMs: number;
  /** How long it may all take. */
  readonly timeoutMs: number;
  readonly hosted: Pick<HostedConferences, "count">;
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
export async function runDrain(options: DrainOptions, signal: AbortSignal): Promise<void> {
  const { serverId, deadlineMs, timeoutMs, hosted, logger, clock } = options;
  const untilMs = clock.monotonicMs() + timeoutMs;
  logger.info({ serverId, conferences: hosted.count, deadlineMs, timeoutMs }, "draining before the stop");
  try {
    if (!(await beginDrain(options, untilMs, signal))) return;
    while (hosted.count > 0) {
      if (clock.monotonicMs() >= untilMs) {
        logger.warn(
          { serverId, conferences: hosted.count },
          "drain took too long; stopping with conferences left",
        );
        return;
      }
      await sleep(clock, LOOK_INTERVAL_MS, signal);
    }
    logger.info({ serverId }, "drained");
  } catch (err) {
    if (signal.aborted)
      logger.warn(
        { serverId, conferences: hosted.count },
        "drain broken off; stopping with conferences left",
      );
    throw err;
  }
}

/** Whether the drain has begun, and is to be waited for. */
async function beginDrain(options: DrainOptions, untilMs: number, signal: AbortSignal): Promise<boolean> {
  const { servers, serverId, deadlineMs, hosted, logger, clock } = options;
  const backoff = createBackoff({ initialMs: 200, maxMs: 2_000 });
  for (;;) {
    try {
      await servers.drainServer(
        { serverId, deadline: durationFromMs(deadlineMs) },
        { signal, timeoutMs: CALL_TIMEOUT_MS },
      );
      return true;
    } catch (err) {
      signal.throwIfAborted();
      if (ConnectError.from(err).code === Code.Unimplemented) {
        logger.warn(
          { serverId, conferences: hosted.count },
          "the control plane knows no drains; stopping at once",
        );
        return false;
      }
      // Nobody loses anything, and the control plane will see that the server is gone.
      if (hosted.count === 0) return false;
      if (clock.monotonicMs() >= untilMs) {
        logger.warn(
          { err, serverId, conferences: hosted.count },
          "could not drain; stopping with conferences left",
        );
        return false;
      }
      logger.warn({ err, serverId }, "cannot begin to drain; trying again");
      await sleep(clock, backoff.nextMs(), signal);
    }
  }
}

export interface UntilDrainedOptions {
  readonly servers: Pick<Client<typeof ServerService>, "getServer">;
  readonly serverId: string;
  readonly hosted: Pick<HostedConferences, "count">;
  readonly clock: Clock;
}

/** An operator's drain takes minutes; nobody waits for the process. */
const IDLE_POLL_MS = 10_000;
const DRAINING_POLL_MS = 1_000;

/**
 * Resolves when an operator's drain of this server is done. One that was done before this agent began does not count, or
 * an agent that is started again after a drain would end at once, for ever. Rejects only when the signal aborts.
 */
export async function untilDrained(options: UntilDrainedOptions, signal: AbortSignal): Promise<void> {
  const { servers, serverId, hosted, clock } = options;
  let wasUndrained = false;
  for (;;) {
    let isDraining = false;
    try {
      const { server } = await servers.getServer({ serverId }, { signal, timeoutMs: CALL_TIMEOUT_MS });
      isDraining = server?.drain !== undefined;
      if (!server?.drain?.done) wasUndrained = true;
      else if (wasUndrained && hosted.count === 0) return;
    } catch {
      // Not registered yet, or the control plane is away: nothing is known to be done.
      signal.throwIfAborted();
    }
    await sleep(clock, isDraining ? DRAINING_POLL_MS : IDLE_POLL_MS, signal);
  }
}
