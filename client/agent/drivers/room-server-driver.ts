import { randomUUID } from "node:crypto";
import { createBackoff } from "../../../common/backoff.ts";
import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import {
  type Call,
  CONTROL_PATHS,
  type Fence,
  readBeat,
  readRenewed,
  readStarted,
  readTakenOver,
  type Stop,
  type TakenOver,
  toAdoptedRoom,
} from "../room-server/control-protocol.ts";
import { ControlError, createControlClient } from "./control-client.ts";
import type { Driver } from "./driver.ts";

export interface RoomServerDriverOptions {
  /** host:port of the room server's control. */
  readonly control: string;
  /** What the room server is to do when it hears this agent no more. */
  readonly fence: () => Fence;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Another process drives the conference server now: this one has nothing left to do. */
export class ReplacedError extends Error {
  override readonly name = "ReplacedError";
}

/** A supervisor starts both at the same moment. */
const CONNECT_TIMEOUT_MS = 10_000;

/** A dozen in the time that the room server may go on alone, at the default settings. */
export const HEARTBEAT_INTERVAL_MS = 500;
const HEARTBEAT_TIMEOUT_MS = 1_000;
const HEARTBEAT_RETRY_MS = 100;

/** Silence may be a pause of one of the two; a refusal is not. */
const SILENT_HEARTBEATS = 3;

const CALL_TIMEOUT_MS = 5_000;

/**
 * Drives a `convoke room-server`, whose rooms go on while the agent is restarted.
 * @throws {Error} when it cannot be reached within 10 s
 */
export async function createRoomServerDriver(
  options: RoomServerDriverOptions,
  signal: AbortSignal,
): Promise<Driver> {
  const { control, fence, logger, clock } = options;
  const agentId = randomUUID();
  const client = createControlClient(control);
  const ended = new AbortController();
  const closing = new AbortController();
  const extensions = new Map<string, number>();
  let participants: Readonly<Record<string, number>> = {};
  let problem: string | undefined;
  let failed = 0;

  const taken = await takeOver(options, client, agentId, signal).catch((err: unknown) => {
    client.close();
    throw err;
  });
  let { instanceId } = taken;

  const common = (): Call => ({ agentId, instanceId, fence: fence() });

  /** Makes a call; when the room server obeys another agent, or is in another life, this driver's is over. */
  async function call<T>(
    path: string,
    body: Call,
    read: (answer: unknown) => T,
    callSignal: AbortSignal,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<T> {
    try {
      return read(await client.call(path, body, { signal: callSignal, timeoutMs }));
    } catch (err) {
      const status = err instanceof ControlError ? err.status : 0;
      if (status === 410)
        ended.abort(new ReplacedError("another agent drives the room server", { cause: err }));
      else if (status === 409 && body.instanceId === instanceId) ended.abort(err);
      throw err;
    }
  }

  async function beat() {
    const told = [...extensions];
    const body = { ...common(), extensions: Object.fromEntries(told) };
    try {
      const answer = await call(
        CONTROL_PATHS.heartbeat,
        body,
        readBeat,
        closing.signal,
        HEARTBEAT_TIMEOUT_MS,
      );
      for (const [id, ms] of told) if (extensions.get(id) === ms) extensions.delete(id);
      if (failed > 0) logger.info("room server answers again");
      failed = 0;
      problem = answer.problem;
      participants = answer.participants;
      return HEARTBEAT_INTERVAL_MS;
    } catch (err) {
      if (closing.signal.aborted) return 0;
      logger[failed === 0 ? "warn" : "debug"]({ err }, "room server does not answer");
      failed++;
      const isRefused = err instanceof ControlError && err.isRefused;
      if (isRefused || failed >= SILENT_HEARTBEATS)
        problem = `the room server at ${control} does not answer: ${err instanceof Error ? err.message : err}`;
      return HEARTBEAT_RETRY_MS;
    }
  }

  async function keepBeating() {
    let waitMs = HEARTBEAT_INTERVAL_MS;
    while (!closing.signal.aborted) {
      await sleep(clock, waitMs, closing.signal).catch(() => {});
      if (!closing.signal.aborted) waitMs = await beat();
    }
  }
  const beating = keepBeating();

  return {
    name: "loopback",
    get instanceId() {
      return instanceId;
    },
    ended: ended.signal,
    get participantCount() {
      return Object.values(participants).reduce((sum, count) => sum + count, 0);
    },
    async start({ dispatchEpoch, ...request }, callSignal) {
      const room = { ...request, dispatchEpoch: String(dispatchEpoch) };
      const body = { ...common(), room };
      return { address: (await call(CONTROL_PATHS.start, body, readStarted, callSignal)).address };
    },
    async stop(conferenceId, callSignal) {
      extensions.delete(conferenceId);
      const body: Stop = { ...common(), conferenceId };
      await call(CONTROL_PATHS.stop, body, () => {}, callSignal);
    },
    async renew(callSignal) {
      const renewed = await call(CONTROL_PATHS.renew, common(), readRenewed, callSignal);
      instanceId = renewed.instanceId;
      extensions.clear();
      participants = {};
    },
    async hosted() {
      const { rooms, leftMs } = taken;
      return { rooms: rooms.map(toAdoptedRoom), ...(leftMs === undefined ? {} : { leftMs }) };
    },
    extend(conferenceId, validUntilMs) {
      extensions.set(conferenceId, validUntilMs);
    },
    async leave(awayMs, callSignal) {
      const { policy } = fence();
      // No heartbeat must come after this and shorten the time.
      closing.abort();
      await beating;
      await call(
        CONTROL_PATHS.leave,
        { ...common(), fence: { policy, leftMs: awayMs } },
        () => {},
        callSignal,
      );
    },
    participants: (conferenceId) => participants[conferenceId] ?? 0,
    async healthy() {
      return problem === undefined ? { healthy: true } : { healthy: false, reason: problem };
    },
    async close() {
      closing.abort();
      await beating;
      client.close();
      ended.abort(new Error("the driver is closed"));
    },
  };
}

async function takeOver(
  { control, logger, clock }: RoomServerDriverOptions,
  client: ReturnType<typeof createControlClient>,
  agentId: string,
  signal: AbortSignal,
): Promise<TakenOver> {
  const untilMs = clock.monotonicMs() + CONNECT_TIMEOUT_MS;
  const backoff = createBackoff({ initialMs: 100, maxMs: 1_000 });
  for (let tries = 1; ; tries++) {
    try {
      const options = { signal, timeoutMs: CALL_TIMEOUT_MS };
      return readTakenOver(await client.call(CONTROL_PATHS.takeOver, { agentId }, options));
    } catch (err) {
      signal.throwIfAborted();
      if (clock.monotonicMs() >= untilMs) {
        const why = err instanceof Error ? err.message : String(err);
        throw new Error(`no room server at ${control}: ${why}; start one with \`convoke room-server\``, {
          cause: err,
        });
      }
      if (tries === 1) logger.info({ control, err }, "waiting for the room server");
      await sleep(clock, backoff.nextMs(), signal);
    }
  }
}
