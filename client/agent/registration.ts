import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
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
  /**
   * Registers, and again and again until the signal aborts; goes on trying while the control plane is away. Rejects only
   * when the control plane finds the facts invalid before it has ever taken them.
   */
  run(facts: ServerFacts, signal: AbortSignal): Promise<void>;
}

export interface RegistrationOptions {
  readonly servers: Pick<Client<typeof ServerService>, "registerServer">;
  readonly logger: Logger;
  readonly clock: Clock;
  /** A number in [0, 1). Default: Math.random. */
  readonly random?: () => number;
}

/** Repeating changes nothing when nothing changed, so this only bounds how long a forgotten server stays unknown. */
export const REGISTER_INTERVAL_MS = 30_000;

/** The least time between two registrations, however often `renew` is called. */
export const REGISTER_MIN_INTERVAL_MS = 1_000;

const REGISTER_TIMEOUT_MS = 5_000;

export function createRegistration(options: RegistrationOptions): Registration {
  const { servers, logger, clock, random = Math.random } = options;
  const waker = createWaker(clock);
  const backoff = createBackoff({ initialMs: 200, maxMs: 5_000, random });
  let incarnation = 0n;
  let away = false;

  async function register(facts: ServerFacts, signal: AbortSignal): Promise<boolean> {
    try {
      const { server } = await servers.registerServer(
        { server: { ...facts, labels: { ...facts.labels } } },
        { signal, timeoutMs: REGISTER_TIMEOUT_MS },
      );
      if (!server) throw new ConnectError("the answer holds no server", Code.Internal);
      if (away || server.incarnation !== incarnation)
        logger.info({ serverId: facts.serverId, incarnation: server.incarnation }, "server registered");
      incarnation = server.incarnation;
      away = false;
      backoff.reset();
      return true;
    } catch (err) {
      signal.throwIfAborted();
      if (incarnation === 0n && ConnectError.from(err).code === Code.InvalidArgument) throw err;
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
    async run(facts, signal) {
      try {
        for (;;) {
          if (await register(facts, signal)) {
            await sleep(clock, REGISTER_MIN_INTERVAL_MS, signal);
            const spread = 0.8 + 0.4 * random();
            await waker.wait(REGISTER_INTERVAL_MS * spread - REGISTER_MIN_INTERVAL_MS, signal);
          } else {
            await sleep(clock, backoff.nextMs(), signal);
          }
        }
      } catch (err) {
        if (!signal.aborted) throw err;
      }
    },
  };
}
