import { homedir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../common/clock.ts";
import type { Logger } from "../common/logging.ts";
import { addProcessMetrics } from "../common/metrics.ts";
import { listenGrpc } from "../common/rpc/grpc-listener.ts";
import { createReplica, type Replica } from "./replica.ts";
import { listenHttp } from "./rpc/http-listener.ts";
import type { Settings } from "./settings.ts";
import { openStore } from "./store/open-store.ts";

export interface ServeOptions {
  /** host:port of gRPC. */
  readonly listen: string;
  /** host:port of Connect, JSON and the probes. */
  readonly http: string;
  /** `embedded:DIR` or `etcd://host:port[,host:port…][/prefix]`. */
  readonly store: string;
  readonly settings?: Partial<Settings>;
  readonly logger: Logger;
  /** Told once when both ports serve. */
  onListening?(addresses: { grpc: string; http: string }): void;
}

/** How long calls under way have to finish when the process stops. */
const STOP_GRACE_MS = 10_000;

/** How long the store may take to give its first listing. */
const READY_TIMEOUT_MS = 60_000;

/** Far above what a watch takes within a data centre, far below what people notice. */
const REPLICA_LAG_MS = 200;

/** Where the embedded store lies unless told otherwise, by the XDG convention. */
export function defaultStore(env: Readonly<Record<string, string | undefined>>): string {
  return `embedded:${join(env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "convoke")}`;
}

/**
 * Runs a control-plane replica until the signal aborts, and then stops it in phases: not ready, no new calls, streams
 * ended with a status, calls under way finished, store closed.
 * @throws {Error} when the store cannot be opened or a port cannot be bound
 */
export async function runServe(options: ServeOptions, signal: AbortSignal): Promise<void> {
  const { logger } = options;
  const clock = systemClock;
  await using stack = new AsyncDisposableStack();
  const { store, prefix } = await openStore(options.store, { clock, logger });
  stack.defer(() => store.close());
  const replica = createReplica({
    store,
    prefix,
    clock,
    logger,
    settings: {
      ...(store.engine === "embedded" ? {} : { replicaLagMs: REPLICA_LAG_MS }),
      ...options.settings,
    },
  });

  addProcessMetrics(replica.metrics);

  // The replica goes on until the ports are closed: calls under way need it to finish.
  const background = new AbortController();
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const running = replica.run(background.signal).catch((err: unknown) => failed.reject(err));
  stack.defer(async () => {
    background.abort();
    await running;
  });
  const late = new Error(`the store gave no complete view within ${READY_TIMEOUT_MS / 1000} s`);
  const waiting = new AbortController();
  const starting = AbortSignal.any([signal, waiting.signal]);
  try {
    await Promise.race([readyWithin(replica, clock, READY_TIMEOUT_MS, late, starting), failed.promise]);
  } catch (err) {
    if (signal.aborted) return;
    throw err;
  } finally {
    waiting.abort();
  }

  let stopping = false;
  // Both ports stop together, so that neither takes calls while the other waits for its last ones.
  const ports: { stop(graceMs: number): Promise<void> }[] = [];
  stack.defer(async () => {
    await Promise.all(ports.map((port) => port.stop(STOP_GRACE_MS)));
  });
  const http = await listenHttp({
    address: options.http,
    services: replica.services,
    isReady: () => replica.fresh && !stopping,
    metrics: replica.metrics,
  });
  ports.push(http);
  const grpc = await listenGrpc({ address: options.listen, services: replica.services });
  ports.push(grpc);
  logger.info({ grpc: grpc.address, http: http.address, store: store.engine, prefix }, "serving");
  options.onListening?.({ grpc: grpc.address, http: http.address });

  const stop = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => stop.resolve(), { once: true });
  if (signal.aborted) stop.resolve();
  await Promise.race([stop.promise, failed.promise]);
  stopping = true;
  logger.info("stopping");
}

async function readyWithin(
  replica: Replica,
  clock: Clock,
  timeoutMs: number,
  late: Error,
  signal: AbortSignal,
): Promise<void> {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const timer = clock.setTimer(() => controller.abort(late), timeoutMs);
  try {
    await replica.ready(controller.signal);
  } finally {
    timer.clear();
    signal.removeEventListener("abort", stop);
  }
}
