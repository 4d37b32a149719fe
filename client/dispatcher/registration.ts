import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import { type DetectionSettings, readDetection } from "../../common/detection.ts";
import type { Logger } from "../../common/logging.ts";
import { durationFromMs, durationMs } from "../../common/time.ts";
import type {
  DispatcherService,
  RegisterDispatcherResponse,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { createControlPlaneLoss } from "./control-plane-loss.ts";
import {
  createEpoch,
  DispatcherReplacedError,
  type Epoch,
  EpochOverError,
  type OwnedEpoch,
} from "./epoch.ts";
import { runBeside } from "./run-beside.ts";

/**
 * Where a registration is.
 *
 * | from        | to          | cause                                                                             |
 * | ----------- | ----------- | --------------------------------------------------------------------------------- |
 * | idle        | registering | `run` is called                                                                   |
 * | registering | registered  | RegisterDispatcher answered in time                                               |
 * | registering | waiting     | it failed, or answered too late to be trusted                                     |
 * | registered  | waiting     | the validity deadline passed without a heartbeat, or a call said EPOCH_EXPIRED    |
 * | waiting     | registering | the backoff is over                                                               |
 * | registered  | ended       | the work is done (deregisters), it failed, or a call said DISPATCHER_REPLACED     |
 * | registering | ended       | stopped, replaced, or the control plane refuses the request as invalid            |
 * | waiting     | ended       | stopped                                                                           |
 */
export type RegistrationState =
  | { readonly kind: "idle" }
  | { readonly kind: "registering" }
  | { readonly kind: "registered"; readonly epoch: Epoch }
  | { readonly kind: "waiting"; readonly delayMs: number }
  | { readonly kind: "ended" };

/** A dispatcher's place in the registry, renewed for as long as it runs. */
export interface Registration {
  readonly state: RegistrationState;
  /**
   * Registers, and runs `withEpoch` under each epoch in turn with heartbeats beside it, until `withEpoch` returns while
   * its epoch is valid (then deregisters) or `stop` aborts between epochs. `withEpoch` watches `stop` itself, so that it
   * can finish its work while the heartbeats go on; it must return or throw soon after its epoch's signal aborts.
   *
   * @throws {DispatcherReplacedError} when another process registered under the same ID
   * @throws {ConnectError} INVALID_ARGUMENT when the control plane refuses the registration as such
   * @throws whatever `withEpoch` throws while its epoch is valid
   */
  run(stop: AbortSignal, withEpoch: WithEpoch): Promise<void>;
}

/** Works under an epoch; `detection` says how servers are observed under it. */
export type WithEpoch = (epoch: Epoch, detection: DetectionSettings) => Promise<void>;

/** What a registration was granted. */
interface Granted {
  readonly owned: OwnedEpoch;
  readonly intervalMs: number;
  readonly detection: DetectionSettings;
}

export interface RegistrationOptions {
  readonly dispatcherId: string;
  readonly ttlMs: number;
  readonly weight: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly client: Client<typeof DispatcherService>;
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * Called with true, between two epochs, when the registration cannot be renewed because the control plane or its store
   * does not answer, and with false when that is over: before the next epoch begins, or when there will be none.
   */
  readonly onControlPlaneLost?: (lost: boolean) => void;
  /** In [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** A registration that takes longer is tried again: it would have little validity left. */
const REGISTER_TIMEOUT_MS = 3_000;

/** The most that ListDispatchers gives. */
const PAGE_SIZE = 1_000;

/** What leaving may take; the lease ends by itself anyway. */
const DEREGISTER_TIMEOUT_MS = 2_000;

/** Dispatchers started together do not heartbeat together: up to this part of the interval is taken off each. */
const HEARTBEAT_JITTER = 0.1;

export function createRegistration(options: RegistrationOptions): Registration {
  const { dispatcherId, client, clock, logger, random = Math.random } = options;
  const { onControlPlaneLost = () => {} } = options;
  const backoff = createBackoff({ random });
  const loss = createControlPlaneLoss(onControlPlaneLost);
  let state: RegistrationState = { kind: "idle" };
  /** The last epoch, until this process has tried to register anew: after that, a later one may be its own. */
  let lost: bigint | undefined;

  function setState(next: RegistrationState) {
    state = next;
    logger.debug({ registration: next.kind }, "registration changed");
  }

  async function register(stop: AbortSignal): Promise<Granted> {
    if (lost !== undefined) await assertNotReplaced(lost, stop);
    lost = undefined;
    const sentAtMs = clock.monotonicMs();
    const response = await client.registerDispatcher(
      {
        dispatcherId,
        ttl: durationFromMs(options.ttlMs),
        weight: options.weight,
        labels: { ...options.labels },
      },
      { signal: stop, timeoutMs: Math.min(REGISTER_TIMEOUT_MS, options.ttlMs) },
    );
    const { epoch, ttlMs, intervalMs } = grantOf(response);
    const owned = createEpoch({ dispatcherId, epoch, ttlMs, sentAtMs, clock });
    owned.assertValid();
    logger.info({ epoch, ttlMs, heartbeatIntervalMs: intervalMs }, "registered");
    return { owned, intervalMs, detection: readDetection(response.detection) };
  }

  /**
   * A registration that is replaced is first ended, and a call in between hears EPOCH_EXPIRED; registering anew would
   * then throw the newcomer out, which may throw this one out in turn.
   */
  async function assertNotReplaced(epoch: bigint, stop: AbortSignal) {
    let pageToken = "";
    do {
      const page = await client.listDispatchers(
        { pageSize: PAGE_SIZE, pageToken },
        { signal: stop, timeoutMs: REGISTER_TIMEOUT_MS },
      );
      if (page.dispatchers.some((one) => one.dispatcherId === dispatcherId && one.epoch > epoch)) {
        throw new DispatcherReplacedError(dispatcherId);
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  async function heartbeats(owned: OwnedEpoch, intervalMs: number, signal: AbortSignal) {
    const retry = createBackoff({ initialMs: intervalMs / 10, maxMs: intervalMs, random });
    let waitMs = intervalMs;
    for (;;) {
      await sleep(clock, waitMs * (1 - HEARTBEAT_JITTER * random()), signal);
      if (!owned.valid()) return;
      const sentAtMs = clock.monotonicMs();
      // Half of what is left, so that one lost heartbeat leaves time for another.
      const timeoutMs = Math.max(1, Math.floor(Math.min(intervalMs, owned.remainingMs() / 2)));
      try {
        await client.heartbeat({ dispatcherId, epoch: owned.epoch }, { signal, timeoutMs });
        owned.renew(sentAtMs);
        loss.heartbeat();
        backoff.reset();
        retry.reset();
        waitMs = Math.max(0, intervalMs - (clock.monotonicMs() - sentAtMs));
      } catch (err) {
        if (signal.aborted || owned.endedBy(err)) return;
        loss.heartbeat(err);
        logger.warn({ err, remainingMs: Math.round(owned.remainingMs()) }, "heartbeat failed");
        waitMs = retry.nextMs();
      }
    }
  }

  async function deregister(owned: OwnedEpoch) {
    try {
      await client.deregisterDispatcher(
        { dispatcherId, epoch: owned.epoch },
        { signal: owned.signal, timeoutMs: DEREGISTER_TIMEOUT_MS },
      );
      logger.info({ epoch: owned.epoch }, "deregistered");
    } catch (err) {
      logger.warn({ err, epoch: owned.epoch }, "could not deregister; the registration ends with its lease");
    }
  }

  /** Resolves to true when the work is done, to false when the epoch ended under it. */
  async function hold({ owned, intervalMs, detection }: Granted, withEpoch: WithEpoch): Promise<boolean> {
    try {
      await runBeside(
        () => withEpoch(owned, detection),
        (signal) => heartbeats(owned, intervalMs, AbortSignal.any([signal, owned.signal])),
      );
    } catch (err) {
      if (!owned.signal.aborted) {
        owned.end(new EpochOverError("the work under it failed", { cause: err }));
        throw err;
      }
    }
    if (owned.valid()) {
      await deregister(owned);
      owned.end(new EpochOverError("the dispatcher is done"));
      return true;
    }
    const { reason } = owned.signal;
    if (reason instanceof DispatcherReplacedError) throw reason;
    lost = owned.epoch;
    loss.epochOver(reason);
    logger.warn({ epoch: owned.epoch, err: reason }, "registration lost; all its work is stopped");
    return false;
  }

  return {
    get state() {
      return state;
    },
    async run(stop, withEpoch) {
      try {
        while (!stop.aborted) {
          setState({ kind: "registering" });
          try {
            const granted = await register(stop);
            loss.over();
            setState({ kind: "registered", epoch: granted.owned });
            if (await hold(granted, withEpoch)) return;
          } catch (err) {
            if (stop.aborted && state.kind === "registering") return;
            if (state.kind !== "registering" || isFinal(err)) throw err;
            loss.refused(err);
            logger.warn({ err }, "could not register");
          }
          if (stop.aborted) return;
          const delayMs = backoff.nextMs();
          setState({ kind: "waiting", delayMs });
          await sleep(clock, delayMs, stop).catch(() => {});
        }
      } finally {
        loss.over();
        setState({ kind: "ended" });
      }
    },
  };
}

/** Repeating a request that is invalid gives the same answer; anything else may pass. */
function isFinal(error: unknown): boolean {
  return (
    error instanceof DispatcherReplacedError ||
    (error instanceof ConnectError && error.code === Code.InvalidArgument)
  );
}

function grantOf({ dispatcher, heartbeatInterval }: RegisterDispatcherResponse) {
  if (!dispatcher?.ttl || !heartbeatInterval) {
    throw new ConnectError("the registration came back without ttl or heartbeat_interval", Code.Internal);
  }
  const ttlMs = durationMs(dispatcher.ttl);
  return {
    epoch: dispatcher.epoch,
    ttlMs,
    // An interval of 0 would make a loop without a pause; one beyond the TTL would never renew in time.
    intervalMs: Math.min(Math.max(durationMs(heartbeatInterval), ttlMs / 100), ttlMs / 2),
  };
}
