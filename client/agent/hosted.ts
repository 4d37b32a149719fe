import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { AdoptedRoom, Driver, RoomRequest } from "./drivers/driver.ts";
import { createFences } from "./fences.ts";
import { createKeyedLock, LockBusyError } from "./keyed-lock.ts";
import { createLimiter } from "./limiter.ts";

/** A conference that the conference server hosts. */
export interface HostedConference {
  readonly conferenceId: string;
  readonly dispatchEpoch: bigint;
  readonly address: string;
  /** The units it takes. */
  readonly weight: number;
  /** When its room was started, in milliseconds since 1970. */
  readonly startTimeMs: number;
  /** When it took on its dispatch epoch, on the monotonic clock. */
  readonly epochSinceMs: number;
  /** Until when it may run, in milliseconds since 1970; infinite when nobody has said. */
  readonly validUntilMs: number;
  /** Whether an earlier agent started it: what has become of it meanwhile is to be asked. */
  readonly adopted: boolean;
}

/** What the dispatch table says of a hosted conference, and may come to say differently. */
export interface TableRow {
  readonly validUntilMs: number;
  /** The units it takes. */
  readonly weight: number;
}

/** Why a conference was not started or not stopped. */
export interface Refusal {
  readonly reason: ErrorReason;
  readonly message: string;
}

export type StartOutcome = { readonly conference: HostedConference } | { readonly refusal: Refusal };
export type StopOutcome = { readonly refusal?: Refusal };

/**
 * What the conference server hosts, fenced by dispatch epochs: the epoch of a hosted conference only rises, what was
 * stopped comes back under a higher epoch only, and the units of all never exceed the capacity. Starts and stops of one
 * conference happen one after the other. Refusals are outcomes; nothing is thrown.
 */
export interface HostedConferences {
  /** The same epoch again gives the same conference; a higher one takes its place and keeps its room and address. */
  start(request: RoomRequest): Promise<StartOutcome>;
  /** Stops what is hosted under this epoch or a lower one, and fences this epoch off. Not hosted is a success. */
  stop(conferenceId: string, dispatchEpoch: bigint): Promise<StopOutcome>;
  /**
   * Fences an epoch off that the dispatch table has elsewhere or no more, so that a start which comes late is refused. What
   * is hosted stays until it is stopped.
   */
  fence(conferenceId: string, dispatchEpoch: bigint): void;
  /** Takes over what an earlier agent has started; before anything else is started. */
  adopt(rooms: readonly AdoptedRoom[]): void;
  /** Takes on what the dispatch table says of a conference, when it is hosted under this epoch. */
  update(conferenceId: string, dispatchEpoch: bigint, row: TableRow): void;
  /**
   * Empties all once `renew` has ended the rooms; their epochs, and those of starts under way, are fenced off. When `renew`
   * rejects all stays as it was.
   */
  clear(renew: () => Promise<void>): Promise<void>;
  get(conferenceId: string): HostedConference | undefined;
  /** Up to `limit` conferences in order of their IDs, from the first after `after`. */
  page(after: string, limit: number): HostedConference[];
  all(): Iterable<HostedConference>;
  readonly count: number;
  /** The units of all that is hosted or being started. */
  readonly unitsInUse: number;
}

export interface HostedOptions {
  readonly driver: Driver;
  /** The units that all conferences together may take. */
  readonly capacity: number;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Enough to hide a conference server's latency, few enough not to flood it when a thousand conferences move. */
export const DRIVER_PARALLELISM = 16;

/** Shorter than the deadline of the calls that wait for it, so that the caller hears the reason. */
export const DRIVER_TIMEOUT_MS = 5_000;

/** A conference has one dispatcher at a time, which repeats a call now and then; more waiting calls are a mistake. */
const MAX_CALLS_PER_CONFERENCE = 32;

interface Entry extends HostedConference {
  validUntilMs: number;
  weight: number;
}

export function createHostedConferences(options: HostedOptions): HostedConferences {
  const { driver, capacity, logger, clock } = options;
  const hosted = new Map<string, Entry>();
  const fences = createFences();
  const locks = createKeyedLock(MAX_CALLS_PER_CONFERENCE);
  const limiter = createLimiter(DRIVER_PARALLELISM);
  let unitsInUse = 0;
  /** Rises with `clear`: what was begun before must not come in after. */
  let life = 0;
  let clearing = false;

  const callDriver = <T>(call: (signal: AbortSignal) => Promise<T>) =>
    limiter.run(async () => {
      const deadline = new AbortController();
      const timer = clock.setTimer(
        () => deadline.abort(new Error(`the conference server did not answer in ${DRIVER_TIMEOUT_MS} ms`)),
        DRIVER_TIMEOUT_MS,
      );
      try {
        return await call(deadline.signal);
      } finally {
        timer.clear();
      }
    });

  async function start(request: RoomRequest): Promise<StartOutcome> {
    const { conferenceId, dispatchEpoch, weight } = request;
    if (clearing)
      return refused(ErrorReason.SERVER_UNAVAILABLE, "the server is ending its conferences; repeat the call");
    const current = hosted.get(conferenceId);
    const fence = fences.get(conferenceId);
    if (dispatchEpoch <= fence) return stale(fencedOff(conferenceId, fence));
    if (current && dispatchEpoch < current.dispatchEpoch) return staleAgainst(current);
    if (current && dispatchEpoch === current.dispatchEpoch) return { conference: current };

    const reserved = Math.max(weight - (current?.weight ?? 0), 0);
    if (unitsInUse + reserved > capacity) {
      return refused(
        ErrorReason.CAPACITY_EXCEEDED,
        `${conferenceId} needs ${weight} units; ${capacity - unitsInUse} of ${capacity} are free`,
      );
    }
    unitsInUse += reserved;
    const startedInLife = life;
    try {
      const { address } = await callDriver((signal) => driver.start(request, signal));
      if (life !== startedInLife) fences.raise(conferenceId, dispatchEpoch);
      const raised = fences.get(conferenceId);
      if (dispatchEpoch <= raised) {
        // The table has moved on while the driver was at it.
        unitsInUse -= reserved;
        if (!current || life !== startedInLife) await removeRemains(conferenceId);
        return stale(fencedOff(conferenceId, raised));
      }
      // The table may have told another weight meanwhile.
      unitsInUse += weight - (hosted.get(conferenceId)?.weight ?? 0) - reserved;
      const conference: Entry = {
        conferenceId,
        dispatchEpoch,
        address,
        weight,
        startTimeMs: current?.startTimeMs ?? clock.wallMs(),
        epochSinceMs: clock.monotonicMs(),
        validUntilMs: request.validUntilMs ?? Number.POSITIVE_INFINITY,
        adopted: false,
      };
      hosted.set(conferenceId, conference);
      fences.drop(conferenceId);
      logger.debug({ conferenceId, dispatchEpoch, address, weight }, "conference started");
      return { conference };
    } catch (err) {
      unitsInUse -= reserved;
      logger.warn({ err, conferenceId, dispatchEpoch }, "driver could not start the conference");
      if (!current || life !== startedInLife) await removeRemains(conferenceId);
      return driverFailed(`${conferenceId} could not be started`, err);
    }
  }

  /** A start that failed or came too late may have left a room that nobody would ever stop. */
  async function removeRemains(conferenceId: string) {
    try {
      await callDriver((signal) => driver.stop(conferenceId, signal));
    } catch (err) {
      logger.error({ err, conferenceId }, "a room may be left on the conference server after a failed start");
    }
  }

  async function stop(conferenceId: string, dispatchEpoch: bigint): Promise<StopOutcome> {
    const current = hosted.get(conferenceId);
    if (current && dispatchEpoch < current.dispatchEpoch) return staleAgainst(current);
    fences.raise(conferenceId, dispatchEpoch);
    if (!current) return {};
    try {
      await callDriver((signal) => driver.stop(conferenceId, signal));
    } catch (err) {
      logger.warn({ err, conferenceId, dispatchEpoch }, "driver could not stop the conference");
      return driverFailed(`${conferenceId} could not be stopped`, err);
    }
    forget(current);
    logger.debug({ conferenceId, dispatchEpoch: current.dispatchEpoch }, "conference stopped");
    return {};
  }

  function forget(conference: Entry) {
    if (hosted.get(conference.conferenceId) !== conference) return;
    hosted.delete(conference.conferenceId);
    unitsInUse -= conference.weight;
  }

  return {
    start: (request) => locks.run(request.conferenceId, () => start(request)).catch(refusedWhenBusy),
    stop: (conferenceId, dispatchEpoch) =>
      locks.run(conferenceId, () => stop(conferenceId, dispatchEpoch)).catch(refusedWhenBusy),
    fence: (conferenceId, dispatchEpoch) => fences.raise(conferenceId, dispatchEpoch),
    adopt(rooms) {
      for (const { conferenceId, dispatchEpoch, address, weight, startTimeMs, validUntilMs } of rooms) {
        hosted.set(conferenceId, {
          conferenceId,
          dispatchEpoch,
          address,
          weight,
          startTimeMs,
          epochSinceMs: clock.monotonicMs(),
          validUntilMs: validUntilMs ?? Number.POSITIVE_INFINITY,
          adopted: true,
        });
        unitsInUse += weight;
      }
    },
    update(conferenceId, dispatchEpoch, { validUntilMs, weight }) {
      const conference = hosted.get(conferenceId);
      if (conference?.dispatchEpoch !== dispatchEpoch) return;
      unitsInUse += weight - conference.weight;
      conference.weight = weight;
      if (conference.validUntilMs === validUntilMs) return;
      conference.validUntilMs = validUntilMs;
      driver.extend?.(conferenceId, validUntilMs);
    },
    async clear(renew) {
      life++;
      clearing = true;
      try {
        await renew();
      } finally {
        clearing = false;
      }
      for (const conference of [...hosted.values()]) {
        fences.raise(conference.conferenceId, conference.dispatchEpoch);
        forget(conference);
      }
    },
    get: (conferenceId) => hosted.get(conferenceId),
    page(after, limit) {
      const ids = [...hosted.keys()].filter((id) => id > after).sort();
      return ids.slice(0, limit).flatMap((id) => hosted.get(id) ?? []);
    },
    all: () => hosted.values(),
    get count() {
      return hosted.size;
    },
    get unitsInUse() {
      return unitsInUse;
    },
  };
}

function refused(reason: ErrorReason, message: string) {
  return { refusal: { reason, message } };
}

function stale(message: string) {
  return refused(ErrorReason.DISPATCH_EPOCH_STALE, message);
}

function fencedOff(conferenceId: string, fence: bigint) {
  return `${conferenceId} was stopped here or dispatched elsewhere under epoch ${fence}`;
}

function staleAgainst({ conferenceId, dispatchEpoch }: HostedConference) {
  return stale(`${conferenceId} is hosted under the higher epoch ${dispatchEpoch}`);
}

function driverFailed(what: string, err: unknown) {
  return refused(ErrorReason.DRIVER_FAILED, `${what}: ${err instanceof Error ? err.message : String(err)}`);
}

function refusedWhenBusy(err: unknown) {
  if (err instanceof LockBusyError) return refused(ErrorReason.CONTENTION, `${err.message}; repeat the call`);
  throw err;
}
