import { setImmediate as nextTurn } from "node:timers/promises";
import { DEFAULT_SETTINGS } from "../../server/settings.ts";
import { createMemoryStore, type MemoryStore } from "../support/memory-store.ts";
import { startApplication } from "./application.ts";
import { type Chance, createChance } from "./chance.ts";
import { type ConferenceServer, createConferenceServer } from "./conference-server.ts";
import { createDispatcherNode, type DispatcherNode } from "./dispatcher.ts";
import { planFaults } from "./faults.ts";
import { createFigures, type Figures } from "./figures.ts";
import { createInvariants, type Invariants } from "./invariants/invariants.ts";
import { createNetwork, type Network } from "./network.ts";
import { type Operator, startOperator } from "./operator.ts";
import { createReplicaNode, type ReplicaNode } from "./replica.ts";
import { type ClientOptions, createRpc, type Rpc } from "./rpc.ts";
import { drawScenario, type Scenario } from "./scenario.ts";
import { EPOCH_MS, type SimulatedProcess } from "./simulated-process.ts";
import { createTrace, type Trace } from "./trace.ts";
import { createVirtualTime, type VirtualTime } from "./virtual-time.ts";

/** A simulated deployment: real programs on simulated machines, of which a seed decides everything. */
export interface World {
  readonly scenario: Scenario;
  readonly chance: Chance;
  readonly time: VirtualTime;
  readonly network: Network;
  readonly rpc: Rpc;
  readonly store: MemoryStore;
  readonly trace: Trace;
  readonly figures: Figures;
  readonly replicas: readonly ReplicaNode[];
  readonly dispatchers: readonly DispatcherNode[];
  readonly servers: readonly ConferenceServer[];
  readonly invariants: Invariants;
  readonly operator: Operator;
  /** How many faults there are now within the control plane or on the way to it. */
  controlPlaneTroubles: number;
  /** A way to the replicas for a process, which turns to another one when it is not answered. */
  controlPlaneClient(process: SimulatedProcess): ClientOptions;
  /** Watches over work that never ends by itself. */
  background(who: string, work: Promise<void>): void;
  /** Lets go of everything. */
  end(): Promise<void>;
  /** The first failure ends the run. */
  fail(message: string): void;
  /** What went wrong, if anything. */
  readonly failure: string | undefined;
}

/** The clock of the store, which no process stops. */
const storeClock = (time: VirtualTime) => ({
  wallMs: () => EPOCH_MS + time.nowMs,
  monotonicMs: () => time.nowMs,
  setTimer(callback: () => void, delayMs: number) {
    const scheduled = time.at(time.nowMs + Math.max(0, delayMs), callback);
    return { clear: () => scheduled.cancel() };
  },
});

/** @param traced whether to keep what happens */
export function createWorld(seed: number, traced: boolean): World {
  const chance = createChance(seed);
  const scenario = drawScenario(seed, chance.fork("scenario"));
  const time = createVirtualTime();
  const network = createNetwork(time, chance.fork("network").next);
  const rpc = createRpc(time, network);
  const store = createMemoryStore(storeClock(time));
  const trace = createTrace(traced ? () => time.nowMs : undefined);
  const replicas: ReplicaNode[] = [];
  const dispatchers: DispatcherNode[] = [];
  const servers: ConferenceServer[] = [];
  let over = false;
  const clients = chance.fork("clients");

  const world: { -readonly [K in keyof World]: World[K] } = {
    scenario,
    chance,
    time,
    network,
    rpc,
    store,
    trace,
    figures: createFigures(),
    replicas,
    dispatchers,
    servers,
    // Set below: they look at the world that they are a part of.
    invariants: undefined as unknown as Invariants,
    operator: undefined as unknown as Operator,
    controlPlaneTroubles: 0,
    failure: undefined,
    controlPlaneClient(process) {
      let current = clients.whole(0, scenario.replicas - 1);
      return {
        process,
        seen: { revision: 0n },
        address: () => replicas[current]?.address ?? "",
        onUnanswered(address) {
          if (replicas[current]?.address === address) current = (current + 1) % replicas.length;
        },
      };
    },
    background(who, work) {
      work.then(
        () => world.fail(`${who} ended by itself`),
        (err: unknown) => world.fail(`${who} failed: ${err instanceof Error ? err.stack : String(err)}`),
      );
    },
    async end() {
      over = true;
      time.end();
      await nextTurn();
    },
    fail(message) {
      if (over) return;
      if (world.failure === undefined) trace.event("BROKEN", () => message);
      world.failure ??= message;
    },
  };
  const maxFailedAttempts = scenario.settings.maxFailedAttempts ?? DEFAULT_SETTINGS.maxFailedAttempts;
  world.invariants = createInvariants(world, scenario.detection, maxFailedAttempts);

  for (let index = 1; index <= scenario.replicas; index++)
    replicas.push(createReplicaNode(world, `r${index}`));
  for (let index = 1; index <= scenario.dispatchers; index++)
    dispatchers.push(createDispatcherNode(world, `d${index}`));
  const draws = chance.fork("servers");
  for (let index = 1; index <= scenario.servers; index++) {
    servers.push(createConferenceServer(world, `s${index}`, draws.whole(8, 20), draws.fork(`s${index}`)));
  }
  const starts = chance.fork("starts");
  for (const node of replicas) time.at(starts.between(0, 50), () => node.start());
  for (const node of servers) time.at(starts.between(100, 600), () => node.start());
  for (const node of dispatchers) time.at(starts.between(100, 600), () => node.start());
  startApplication(world, chance.fork("application"));
  world.operator = startOperator(world, chance.fork("operator"));
  planFaults(world, chance.fork("faults"));
  return world;
}
