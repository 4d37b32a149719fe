import { createReplica } from "../../server/replica.ts";
import { createSimulatedProcess, type SimulatedProcess } from "./simulated-process.ts";
import { createStoreAccess, type StoreAccess } from "./store-access.ts";
import type { World } from "./world.ts";

/** A control-plane replica: the real one, over its own way to the store. */
export interface ReplicaNode {
  readonly id: string;
  readonly address: string;
  readonly process: SimulatedProcess;
  readonly access: StoreAccess;
  start(): void;
}

export function createReplicaNode(world: World, id: string): ReplicaNode {
  const address = `${id}.example:1`;
  let lives = 0;

  const node: ReplicaNode & { process: SimulatedProcess; access: StoreAccess } = {
    id,
    address,
    process: undefined as unknown as SimulatedProcess,
    access: undefined as unknown as StoreAccess,
    start() {
      lives += 1;
      const process = createSimulatedProcess(id, world.time);
      const random = world.chance.fork(`${id} ${lives}`).next;
      const access = createStoreAccess(world.store, process, world.time, random);
      const replica = createReplica({
        store: access,
        clock: process.clock,
        logger: world.trace.logger(id),
        settings: world.scenario.settings,
      });
      const { signal: never } = process;
      world.background(id, replica.run(never));
      // Until its first view stands, nothing listens.
      void replica.ready(never).then(() => world.rpc.listen(address, process, replica.services));
      Object.assign(node, { process, access });
    },
  };
  return node;
}
