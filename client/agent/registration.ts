import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { durationFromMs } from "../../common/time.ts";
import type { Detection } from "../../proto/gen/convoke/v1/detection_pb.js";
import type { Server } from "../../proto/gen/convoke/v1/server_pb.js";
import type { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createWaker } from "./waker.ts";

/** What the control plane is told of the server. */
export interface ServerFacts {
  readonly serverId: string;
  readonly agentAddress: string;
  readonly capacity: number;
  readonly region: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly driver: string;
  readonly instanceId: string;
}

/** The server's registration with the control plane. */
export interface Registration {
  /** The incarnation the control plane gave last; 0 before the first registration. */
  readonly incarnation: bigint;
  /** Registers again soon, because the control plane may have forgotten the server or counted a new incarnation. */
  renew(): void;
  /** The server has begun another life: the incarnation is unknown until that one is registered. */
  forget(): void;
  /**
   * Tells the control plane, in one last call, that the agent stops and will be back within this time. Rejects when that
   * cannot be told.
   */
  announceRestart(withinMs: number, signal: AbortSignal): Promise<void>;
  /**
   * Registers, and again and again until the signal aborts; goes on trying while the control plane is away. Rejects only
   * when the control plane finds the facts invalid before it has ever taken them.
   */
  run(signal: AbortSignal): Promise<void>;
}

/** What the control plane said to a registration. */
export interface RegistrationAnswer {
  readonly server: Server;
  /** The incarnation before this answer; 0 when this life of the server had none yet. */
  readonly previousIncarnation: bigint;
  readonly detection: Detection | undefined;
  /** When the call was sent, on the monotonic clock. */
  readonly sentMs: number;
}

export interface RegistrationOptions {
  readonly servers: Pick<Client<typeof ServerService>, "registerServer">;
  /** Read before each call. */
  readonly facts: () => ServerFacts;
  readonly onAnswer?: (answer: RegistrationAnswer) => void;
  readonly logger: Logger;
  readonly clock: Clock;
  /** A number in [0, 1). Default: Math.random. */
  readonly random?: () => number;
}

/** Repeating changes nothing when nothing changed, so this only bounds how long a forgotten server stays unknown. */
export const REGISTER_INTERVAL_MS = 30_000;

/** The least time between two registrations, however often `renew` is called. */
export const REGISTER_MIN_INTERVAL_MS = 1_000;

/** The least time before a failed registration is tried again, however often `renew` is called. */
const RETRY_MIN_INTERVAL_MS = 200;

const REGISTER_TIMEOUT_MS = 5_000;

/** The agent is about to stop, and whoever stops it waits. */
const ANNOUNCE_TIMEOUT_MS = 2_000;

export function createRegistration(options: RegistrationOptions): Registration {
  const { servers, facts: readFacts, onAnswer, logger, clock, random = Math.random } = options;
  const waker = createWaker(clock);
  const backoff = createBackoff({ initialMs: 200, maxMs: 5_000, random });
  let incarnation = 0n;
  let everTaken = false;
  let away = false;

  async function register(signal: AbortSignal): Promise<boolean> {
    const facts = readFacts();
    const sentMs = clock.monotonicMs();
    try {
      const { server, detection } = await servers.registerServer(
        { server: { ...facts, labels: { ...facts.labels } } },
        { signal, timeoutMs: REGISTER_TIMEOUT_MS },
      );
      if (!server) throw new ConnectError("the answer holds no server", Code.Internal);
      // The answer may be about a life that has ended meanwhile.
      if (readFacts().instanceId !== facts.instanceId) return false;
      if (away || server.incarnation !== incarnation)
        logger.info({ serverId: facts.serverId, incarnation: server.incarnation }, "server registered");
      const previousIncarnation = incarnation;
      incarnation = server.incarnation;
      everTaken = true;
      away = false;
      backoff.reset();
      onAnswer?.({ server, previousIncarnation, detection, sentMs });
      return true;
    } catch (err) {
      signal.throwIfAborted();
      if (!everTaken && ConnectError.from(err).code === Code.InvalidArgument) throw err;
      const level = away ? "debug" : "warn";
      logger[level]({ err, serverId: facts.serverId }, "cannot register the server; rooms go on");
      away = true;
      return false;
    }
  }

  return {
    get incarnation() {
      return incarnation;
    },
    renew: () => waker.wake(),
    forget() {
      incarnation = 0n;
      waker.wake();
    },
    async announceRestart(withinMs, signal) {
      const facts = readFacts();
      await servers.registerServer(
        { server: { ...facts, labels: { ...facts.labels } }, restartWithin: durationFromMs(withinMs) },
        { signal, timeoutMs: ANNOUNCE_TIMEOUT_MS },
      );
    },
    async run(signal) {
      try {
        for (;;) {
          if (await register(signal)) {
            await sleep(clock, REGISTER_MIN_INTERVAL_MS, signal);
            const spread = 0.8 + 0.4 * random();
            await waker.wait(REGISTER_INTERVAL_MS * spread - REGISTER_MIN_INTERVAL_MS, signal);
          } else {
            const waitMs = backoff.nextMs();
            await sleep(clock, Math.min(waitMs, RETRY_MIN_INTERVAL_MS), signal);
            await waker.wait(Math.max(0, waitMs - RETRY_MIN_INTERVAL_MS), signal);
          }
        }
      } catch (err) {
        if (!signal.aborted) throw err;
      }
    },
  };
}
