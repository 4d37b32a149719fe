import { setTimeout as delay } from "node:timers/promises";
import { createMutex } from "../../common/mutex.ts";
import type { EtcdMember } from "../support/etcd.ts";
import type { DispatcherClient } from "./dispatcher-client.ts";
import type { FaultKind, PlannedFault } from "./fault-plan.ts";
import type { Replica, World } from "./world.ts";

export interface FaultInjector {
  /** How often each kind has struck. */
  readonly counts: ReadonlyMap<FaultKind, number>;
  /** Strikes at the planned times until the signal aborts; then heals everything, and resolves when that is done. */
  run(faults: readonly PlannedFault[], signal: AbortSignal): Promise<void>;
}

/** So long a dropped reply is kept back: long enough for the store to have done what was asked. */
const DROP_MS = 150;
const LATENCY_MS = 40;

export function createFaultInjector(world: World, dispatchers: readonly DispatcherClient[]): FaultInjector {
  const counts = new Map<FaultKind, number>();
  // One fault of a kind at a time: a minority of the members, one replica down, one fault on each way.
  const members = createMutex();
  const processes = createMutex();
  const ways = new Map(world.replicas.map((replica) => [replica, [createMutex(), createMutex()] as const]));

  async function strike({ kind, target, durationMs }: PlannedFault, signal: AbortSignal): Promise<void> {
    const replica = world.replicas[target % world.replicas.length];
    const dispatcher = dispatchers[target % dispatchers.length];
    if (!replica || !dispatcher) return;
    const struck = () => void counts.set(kind, (counts.get(kind) ?? 0) + 1);
    const lasts = (ms = durationMs) => delay(ms, undefined, { signal }).catch(() => {});
    if (kind.startsWith("dispatcher-")) {
      dispatcher.misbehave(kind === "dispatcher-vanish" ? "vanish" : "oversleep");
      struck();
    } else if (kind.startsWith("etcd-")) {
      using _lock = await members.acquire(signal);
      await strikeMembers(kind, target, struck, lasts);
    } else if (kind.startsWith("replica-")) {
      using _lock = await processes.acquire(signal);
      await strikeProcess(kind, replica, struck, lasts);
    } else {
      const [store, client] = ways.get(replica) ?? [];
      using _lock = await (kind.startsWith("store-") ? store : client)?.acquire(signal);
      struck();
      await strikeWay(kind, replica, lasts);
    }
  }

  async function strikeMembers(
    kind: FaultKind,
    target: number,
    struck: () => void,
    lasts: () => Promise<void>,
  ) {
    const leader = await world.etcd.leader();
    const followers = world.etcd.members.filter((member) => member !== leader);
    const follower = followers[target % followers.length] ?? leader;
    const chosen =
      kind === "etcd-lose-quorum" ? [leader, follower] : kind.endsWith("leader") ? [leader] : [follower];
    struck();
    if (kind.startsWith("etcd-kill")) {
      await Promise.all(chosen.map((member) => member.kill()));
      await lasts();
      await Promise.all(chosen.map((member) => member.start()));
    } else {
      for (const member of chosen) member.pause();
      await lasts();
      for (const member of chosen) member.resume();
      await whole(world.etcd.members);
    }
  }

  async function strikeProcess(
    kind: FaultKind,
    { process }: Replica,
    struck: () => void,
    lasts: () => Promise<void>,
  ) {
    struck();
    if (kind === "replica-pause") {
      process.pause();
      await lasts();
      process.resume();
    } else {
      await process.kill();
      await lasts();
      // Whatever heals, it has to come back; the process has a deadline of its own.
      await process.start(new AbortController().signal);
    }
  }

  return {
    counts,
    async run(faults, signal) {
      const beganMs = performance.now();
      const under: Promise<void>[] = [];
      for (const fault of faults) {
        await delay(Math.max(0, beganMs + fault.atMs - performance.now()), undefined, { signal }).catch(
          () => {},
        );
        if (signal.aborted) break;
        under.push(
          strike(fault, signal).catch((err: unknown) => {
            if (!signal.aborted) throw err;
          }),
        );
      }
      await Promise.all(under);
    },
  };
}

/** Members that were paused count again once they answer; the next fault must not come before. */
async function whole(members: readonly EtcdMember[]): Promise<void> {
  const settleMs = 500;
  await delay(members.every(({ answers }) => answers) ? settleMs : 2 * settleMs);
}

async function strikeWay(
  kind: FaultKind,
  { storeProxies, clientProxy }: Replica,
  lasts: (ms?: number) => Promise<void>,
) {
  const proxies = kind.startsWith("store-") ? storeProxies : [clientProxy];
  switch (kind) {
    case "store-cut":
    case "client-cut":
      for (const proxy of proxies) proxy.cut();
      return;
    case "store-drop-replies":
    case "client-drop-replies":
      for (const proxy of proxies) proxy.stall("toClient");
      await lasts(DROP_MS);
      for (const proxy of proxies) {
        proxy.cut();
        proxy.resume();
      }
      return;
    case "store-refuse":
      for (const proxy of proxies) {
        proxy.refuse(true);
        proxy.cut();
      }
      await lasts();
      for (const proxy of proxies) proxy.refuse(false);
      return;
    case "store-delay":
      for (const proxy of proxies) proxy.delay(LATENCY_MS, LATENCY_MS);
      await lasts();
      for (const proxy of proxies) proxy.delay(0);
      return;
    default:
      for (const proxy of proxies) proxy.stall(kind === "store-stall-to-server" ? "toServer" : "toClient");
      await lasts();
      for (const proxy of proxies) proxy.resume();
  }
}
