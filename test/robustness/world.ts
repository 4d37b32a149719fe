import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";
import { type EtcdCluster, startEtcd } from "../support/etcd.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { createReplicaProcess, type ReplicaProcess } from "./replica-process.ts";

/** A replica with everything between it and the others. */
export interface Replica {
  readonly process: ReplicaProcess;
  /** To each member of the cluster. */
  readonly storeProxies: readonly FaultProxy[];
  /** Between its clients and it. */
  readonly clientProxy: FaultProxy;
}

/** Three members of etcd and three replicas, with a proxy on every way that a fault can strike. */
export interface World extends AsyncDisposable {
  readonly etcd: EtcdCluster;
  readonly replicas: readonly Replica[];
  /** A client of all replicas, or of one. */
  connect(replica?: number): ConvokeClient;
}

const MEMBERS = 3;
const REPLICAS = 3;
const START_TIMEOUT_MS = 60_000;

export async function startWorld(seed: number): Promise<World> {
  await using starting = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "convoke-robustness-"));
  starting.defer(() => rm(directory, { recursive: true, force: true }));
  const etcd = starting.use(await startEtcd({ members: MEMBERS }));
  const signal = AbortSignal.timeout(START_TIMEOUT_MS);
  const replicas: Replica[] = [];
  for (let index = 0; index < REPLICAS; index++) {
    const storeProxies = await Promise.all(
      etcd.endpoints.map((target) => startFaultProxy({ target, seed: seed + index })),
    );
    for (const proxy of storeProxies) starting.use(proxy);
    const process = createReplicaProcess({
      store: `etcd://${storeProxies.map(({ address }) => address).join(",")}/robustness`,
      logFile: join(directory, `replica-${index + 1}.log`),
    });
    starting.defer(() => process.kill());
    await process.start(signal);
    const clientProxy = starting.use(await startFaultProxy({ target: process.endpoint, seed: seed - index }));
    replicas.push({ process, storeProxies, clientProxy });
  }
  const clients = starting.use(new AsyncDisposableStack());
  const stack = starting.move();
  return {
    etcd,
    replicas,
    connect(replica) {
      const chosen = replica === undefined ? replicas : replicas.slice(replica, replica + 1);
      const client = createConvokeClient({ endpoint: chosen.map(({ clientProxy }) => clientProxy.address) });
      clients.defer(() => client.close());
      return client;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
