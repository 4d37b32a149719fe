import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";
import { sleep, systemClock } from "../../common/clock.ts";
import { type GrpcListener, listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { createReplica, type Replica } from "../../server/replica.ts";
import type { Settings } from "../../server/settings.ts";
import { createEmbeddedStore } from "../../server/store/embedded/index.ts";
import { createEtcdStore } from "../../server/store/etcd/index.ts";
import type { Store } from "../../server/store/store.ts";
import { startEtcd } from "./etcd.ts";

/** Where the data of replicas is. */
export interface StoreFactory {
  readonly name: string;
  /** New, empty data, forgotten when it is disposed of. */
  open(): Promise<StoreCluster>;
}

export interface StoreCluster extends AsyncDisposable {
  /** A store of its own for each replica, which closes it; all on the same data. */
  connect(): Promise<Store>;
}

/** A replica in this process, with a gRPC port and its own view. */
export interface TestReplica {
  readonly replica: Replica;
  /** host:port of gRPC. */
  readonly endpoint: string;
  readonly client: ConvokeClient;
  /** What was written for a purpose, by outcome. */
  writes(kind: string): Promise<Readonly<Record<string, number>>>;
  /** Ends, giving the calls under way so long to finish. */
  stop(graceMs: number): Promise<void>;
}

export interface TestReplicas extends AsyncDisposable {
  readonly replicas: readonly TestReplica[];
  readonly endpoints: readonly string[];
  /** A client of all of them, or of those given, tried in this order. */
  connect(endpoints?: readonly string[]): ConvokeClient;
}

/** As far apart as members of a cluster in one data centre are. */
export interface Latency {
  /** A transaction's answer takes up to this long. */
  readonly txnMs: number;
  /** What the watch tells comes up to this long after it was written. */
  readonly watchMs: number;
  /** In [0, 1). */
  readonly random: () => number;
}

const READY_TIMEOUT_MS = 30_000;
/** Against hanging; a busy machine takes its time. */
const CALL_TIMEOUT_MS = 50_000;
const POLL_MS = 5;

/** One embedded store for all: its watch feeds each replica's own view. Each latency is for one replica, in turn. */
export function embeddedCluster(...latencies: readonly Latency[]): StoreFactory {
  return {
    name: latencies.length > 0 ? "embedded, as slow as a cluster" : "embedded",
    async open() {
      const directory = await mkdtemp(join(tmpdir(), "convoke-replicas-"));
      const store = await createEmbeddedStore({ directory });
      let connected = 0;
      return {
        async connect() {
          const latency = latencies[connected++ % latencies.length];
          return { ...(latency ? delayed(store, latency) : store), close: async () => {} };
        },
        async [Symbol.asyncDispose]() {
          await store.close();
          await rm(directory, { recursive: true, force: true });
        },
      };
    },
  };
}

/** A real etcd of one member. */
export const etcdCluster: StoreFactory = {
  name: "etcd",
  async open() {
    const cluster = await startEtcd();
    return {
      connect: async () =>
        createEtcdStore({
          endpoints: cluster.endpoints,
          clock: systemClock,
          logger: pino({ level: "silent" }),
        }),
      [Symbol.asyncDispose]: () => cluster.stop(),
    };
  },
};

export async function startReplicas(
  factory: StoreFactory,
  count: number,
  settings?: Partial<Settings>,
): Promise<TestReplicas> {
  await using opening = new AsyncDisposableStack();
  const cluster = opening.use(await factory.open());
  const replicas: TestReplica[] = [];
  const stack = opening.use(new AsyncDisposableStack());
  for (let index = 0; index < count; index++)
    replicas.push(await startReplica(await cluster.connect(), stack, settings));
  const owned = opening.move();
  return {
    replicas,
    get endpoints() {
      return replicas.map(({ endpoint }) => endpoint);
    },
    connect(endpoints = replicas.map(({ endpoint }) => endpoint)) {
      const client = createConvokeClient({
        endpoint: endpoints,
        timeoutMs: CALL_TIMEOUT_MS,
        random: () => 0,
      });
      stack.defer(() => client.close());
      return client;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function startReplica(
  store: Store,
  stack: AsyncDisposableStack,
  settings?: Partial<Settings>,
): Promise<TestReplica> {
  const logger = pino({ level: "silent" });
  const replica = createReplica({ store, clock: systemClock, logger, ...(settings ? { settings } : {}) });
  const background = new AbortController();
  const running = replica.run(background.signal);
  let listener: GrpcListener | undefined;
  const end = async (graceMs: number) => {
    const open = listener;
    listener = undefined;
    if (!open) return;
    await open.stop(graceMs);
    background.abort();
    await running;
    await store.close();
  };
  stack.defer(() => end(0));
  const starting = AbortSignal.timeout(READY_TIMEOUT_MS);
  await replica.ready(starting);
  while (!replica.fresh) await sleep(systemClock, POLL_MS, starting);
  listener = await listenGrpc({ address: "127.0.0.1:0", services: replica.services });
  const endpoint = listener.address;
  const client = createConvokeClient({ endpoint, timeoutMs: CALL_TIMEOUT_MS });
  stack.defer(() => client.close());
  return {
    replica,
    endpoint,
    client,
    async writes(kind) {
      const metric = replica.metrics.registry.getSingleMetric("convoke_store_txn_total");
      const { values = [] } = (await metric?.get()) ?? {};
      return Object.fromEntries(
        values
          .filter(({ labels }) => labels.kind === kind)
          .map(({ labels, value }) => [String(labels.outcome), value]),
      );
    },
    stop: end,
  };
}

function delayed(store: Store, { txnMs, watchMs, random }: Latency): Store {
  const wait = (upToMs: number) => new Promise<void>((resolve) => setTimeout(resolve, random() * upToMs));
  return {
    ...store,
    async txn(request, signal) {
      await wait(txnMs / 2);
      const result = await store.txn(request, signal);
      await wait(txnMs / 2);
      return result;
    },
    async *watch(request, signal) {
      for await (const batch of store.watch(request, signal)) {
        await wait(watchMs);
        yield batch;
      }
    },
  };
}
