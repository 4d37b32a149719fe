import { getEventListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Client, createClient, createRouterTransport } from "@connectrpc/connect";
import pino, { type Logger } from "pino";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";
import type { Clock } from "../../common/clock.ts";
import { type GrpcListener, listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createReplica, type Replica } from "../../server/replica.ts";
import type { Settings } from "../../server/settings.ts";
import { createEmbeddedStore } from "../../server/store/embedded/index.ts";
import type { Store } from "../../server/store/store.ts";
import { DEADLINE_MS, within } from "./deadline.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";

/** The typed clients of the control plane's three services. */
export interface Clients {
  readonly dispatchers: Client<typeof DispatcherService>;
  readonly conferences: Client<typeof ConferenceService>;
  readonly servers: Client<typeof ServerService>;
}

/** A control plane in this process: the real services over a real embedded store in a directory of its own. */
export interface ControlPlane<C extends Clock = FakeClock> extends Clients, AsyncDisposable {
  readonly clock: C;
  readonly store: Store;
  readonly replica: Replica;
  /** What was logged, at `warn` and above. */
  readonly complaints: readonly Readonly<Record<string, unknown>>[];
  /** The store's revision; rises with every write and nothing else. */
  revision(): Promise<bigint>;
  /** Clients of a gRPC port over a real socket. The port is opened with the first call. */
  connect(): Promise<ConvokeClient>;
  /** Another replica over the same store, that also ends with this control plane. */
  addReplica(): Promise<Clients>;
  /** Stops the replica and the store, and starts anew on the same data. Sockets are closed. */
  restart(): Promise<void>;
}

export interface ControlPlaneOptions<C extends Clock = FakeClock> {
  /** Default: a fake clock. */
  readonly clock?: C;
  readonly settings?: Partial<Settings>;
  /** Puts faults between the replica and the store. */
  readonly wrap?: (store: Store) => Store;
}

interface Life {
  readonly store: Store;
  readonly replica: Replica;
  readonly clients: Clients;
  readonly stack: AsyncDisposableStack;
  listener?: GrpcListener;
}

/**
 * Opens a control plane that is ready to serve. Disposing of it fails when something is left behind: armed timers of a
 * fake clock, listeners on the signal it ran under.
 */
export async function openControlPlane<C extends Clock = FakeClock>(
  options: ControlPlaneOptions<C> = {},
): Promise<ControlPlane<C>> {
  // Whoever names another clock type gives the clock.
  const clock = options.clock ?? (createFakeClock() as Clock as C);
  const directory = await mkdtemp(join(tmpdir(), "convoke-plane-"));
  const complaints: Record<string, unknown>[] = [];
  const logger = pino(
    { level: "warn", base: null },
    { write: (line: string) => void complaints.push(JSON.parse(line) as Record<string, unknown>) },
  );

  async function begin(): Promise<Life> {
    const stack = new AsyncDisposableStack();
    const opened = await createEmbeddedStore({ directory, clock, logger });
    stack.defer(() => opened.close());
    const store = options.wrap?.(opened) ?? opened;
    const { replica, clients } = await startReplica({ store, clock, logger, options, stack });
    return { store, replica, clients, stack };
  }

  let life = await begin();
  const plane: ControlPlane<C> = {
    clock,
    complaints,
    get store() {
      return life.store;
    },
    get replica() {
      return life.replica;
    },
    get dispatchers() {
      return life.clients.dispatchers;
    },
    get conferences() {
      return life.clients.conferences;
    },
    get servers() {
      return life.clients.servers;
    },
    revision: async () => (await life.store.range({ key: "none" })).revision,
    async connect() {
      if (!life.listener) {
        const listener = await listenGrpc({ address: "127.0.0.1:0", services: life.replica.services });
        life.stack.defer(() => listener.stop(0));
        life.listener = listener;
      }
      const client = createConvokeClient({ endpoint: life.listener.address });
      life.stack.defer(() => client.close());
      return client;
    },
    async addReplica() {
      const { store, stack } = life;
      return (await startReplica({ store, clock, logger, options, stack })).clients;
    },
    async restart() {
      await within("stopping the control plane", life.stack.disposeAsync());
      life = await begin();
    },
    async [Symbol.asyncDispose]() {
      await within("stopping the control plane", life.stack.disposeAsync());
      await rm(directory, { recursive: true, force: true });
      const armed = isFakeClock(clock) ? clock.pending : 0;
      if (armed > 0) throw new Error(`leak: ${armed} timers are still armed`);
    },
  };
  return plane;
}

async function startReplica({
  store,
  clock,
  logger,
  options,
  stack,
}: {
  store: Store;
  clock: Clock;
  logger: Logger;
  options: Pick<ControlPlaneOptions, "settings">;
  stack: AsyncDisposableStack;
}) {
  const replica = createReplica({
    store,
    clock,
    logger,
    ...(options.settings ? { settings: options.settings } : {}),
  });
  const background = new AbortController();
  const running = replica.run(background.signal);
  stack.defer(async () => {
    background.abort();
    await running;
    const left = getEventListeners(background.signal, "abort").length;
    if (left > 0) throw new Error(`leak: ${left} listeners are left on the signal of the replica`);
  });
  await within("the first view", replica.ready(AbortSignal.timeout(DEADLINE_MS)));
  const transport = createRouterTransport((router) => {
    for (const { methods } of replica.services)
      for (const { method, impl } of methods) router.rpc(method, impl as never);
  });
  const clients: Clients = {
    dispatchers: createClient(DispatcherService, transport),
    conferences: createClient(ConferenceService, transport),
    servers: createClient(ServerService, transport),
  };
  return { replica, clients };
}

function isFakeClock(clock: Clock): clock is FakeClock {
  return "pending" in clock;
}

/** Lets the fake clock go on until the promise settles; the store's writes take real time meanwhile. */
export async function passUntil<T>(clock: FakeClock, promise: Promise<T>, stepMs = 50): Promise<T> {
  let settled = false;
  const mark = () => {
    settled = true;
  };
  promise.then(mark, mark);
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (!settled) {
    if (performance.now() > deadlineMs) throw new Error("not in time, however far the clock went on");
    await clock.advance(stepMs);
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
  return promise;
}
