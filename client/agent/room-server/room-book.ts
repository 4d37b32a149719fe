import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import type { Driver } from "../drivers/driver.ts";
import type {
  Beat,
  Call,
  Caller,
  Heartbeat,
  HostedRoomText,
  Renewed,
  Start,
  Started,
  Stop,
  TakenOver,
} from "./control-protocol.ts";

/** The call is about a life of this room server that is over. */
export class LifeOverError extends Error {
  override readonly name = "LifeOverError";
}

/** The call is of an agent that another one has replaced. */
export class ReplacedError extends Error {
  override readonly name = "ReplacedError";
}

/**
 * The rooms of a room server as its agents know them, and the fence for the time without one: with each call the agent
 * says for how long the rooms may go on when it is not heard again, and when that has passed they all end and another life
 * begins, so that everything is placed anew. Under the policy `keep` they go on.
 */
export interface RoomBook {
  /** Looks at the clock first: whether anything may be served at this very moment. */
  mayServe(): boolean;
  takeOver(caller: Caller): TakenOver;
  heartbeat(call: Heartbeat, signal: AbortSignal): Promise<Beat>;
  start(call: Start, signal: AbortSignal): Promise<Started>;
  stop(call: Stop, signal: AbortSignal): Promise<object>;
  renew(call: Call, signal: AbortSignal): Promise<Renewed>;
  leave(call: Call): object;
  readonly instanceId: string;
  readonly roomCount: number;
  /** Ends the rooms in time also when nothing else happens, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

export interface RoomBookOptions {
  readonly driver: () => Driver;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** The fence is looked at before each message anyway; this only bounds how long silent rooms stay. */
const LOOK_INTERVAL_MS = 250;

export function createRoomBook({ driver, logger, clock }: RoomBookOptions): RoomBook {
  const rooms = new Map<string, HostedRoomText>();
  const never = new AbortController().signal;
  let agentId: string | undefined;
  let deadlineMs = Number.POSITIVE_INFINITY;
  let ending: Promise<void> | undefined;

  /** Ends everything when the time is over. The driver closes its rooms before this returns. */
  function check() {
    if (rooms.size === 0 || ending || clock.monotonicMs() < deadlineMs) return;
    logger.warn({ rooms: rooms.size }, "no agent was heard; ending all rooms");
    rooms.clear();
    ending = driver()
      .renew(never)
      .finally(() => {
        ending = undefined;
      });
  }

  /** Lets the call pass when it is of the present agent and life, and takes its fence on. */
  function admit(call: Call) {
    check();
    // A room server that was restarted does not know its agent any more, which then has not been replaced.
    if (call.instanceId !== driver().instanceId)
      throw new LifeOverError("this room server has begun another life");
    if (call.agentId !== agentId) throw new ReplacedError("another agent has taken this room server over");
    const { policy, leftMs } = call.fence;
    deadlineMs = policy === "keep" ? Number.POSITIVE_INFINITY : clock.monotonicMs() + leftMs;
  }

  return {
    mayServe() {
      check();
      return !ending;
    },
    takeOver(caller) {
      check();
      if (agentId !== caller.agentId)
        logger.info({ agentId: caller.agentId, rooms: rooms.size }, "agent took over");
      agentId = caller.agentId;
      const leftMs = deadlineMs - clock.monotonicMs();
      return {
        instanceId: driver().instanceId,
        rooms: [...rooms.values()],
        ...(Number.isFinite(leftMs) ? { leftMs: Math.max(0, leftMs) } : {}),
      };
    },
    async heartbeat(call, signal) {
      admit(call);
      for (const [conferenceId, validUntilMs] of Object.entries(call.extensions)) {
        const room = rooms.get(conferenceId);
        if (room) rooms.set(conferenceId, { ...room, validUntilMs });
      }
      const health = await driver().healthy(signal);
      const counts = [...rooms.keys()].map((id) => [id, driver().participants(id)] as const);
      return {
        participants: Object.fromEntries(counts.filter(([, count]) => count > 0)),
        ...(health.healthy ? {} : { problem: health.reason }),
      };
    },
    async start(call, signal) {
      admit(call);
      const { dispatchEpoch, ...request } = call.room;
      const { address } = await driver().start({ ...request, dispatchEpoch: BigInt(dispatchEpoch) }, signal);
      const startTimeMs = rooms.get(request.conferenceId)?.startTimeMs ?? clock.wallMs();
      rooms.set(request.conferenceId, { ...call.room, address, startTimeMs });
      return { address };
    },
    async stop(call, signal) {
      admit(call);
      rooms.delete(call.conferenceId);
      await driver().stop(call.conferenceId, signal);
      return {};
    },
    async renew(call, signal) {
      admit(call);
      rooms.clear();
      await driver().renew(signal);
      return { instanceId: driver().instanceId };
    },
    leave(call) {
      admit(call);
      logger.info({ fence: call.fence, rooms: rooms.size }, "agent left for a while");
      return {};
    },
    get instanceId() {
      return driver().instanceId;
    },
    get roomCount() {
      return rooms.size;
    },
    async run(signal) {
      while (!signal.aborted) {
        check();
        await ending;
        await sleep(clock, LOOK_INTERVAL_MS, signal).catch(() => {});
      }
    },
  };
}
