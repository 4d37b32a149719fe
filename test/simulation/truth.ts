import type { World } from "./world.ts";

/**
 * What really happens to conference servers, as the simulated world knows it and none of its programs do. Times are in
 * milliseconds since the world began; infinitely long ago for what never was.
 */
export interface Truth {
  /** To be called before and after each fault begins or ends: between, nothing changes. */
  note(): void;
  /** When the server's agent was last not running. */
  serverSickMs(serverId: string): number;
  /** When something was last wrong on the way between just these two, as far as that has to do with the server. */
  pairSickMs(dispatcherId: string, serverId: string): number;
  pairSickOfAnyMs(serverId: string): number;
  /** When the way between these two was last cut because the dispatchers had lost their network. */
  pairDarkMs(dispatcherId: string, serverId: string): number;
  /** When a registration last came or went. */
  registryChangedMs: number;
  /** Pairs that are cut because the dispatchers have lost their network: that says nothing of the server. */
  readonly blackout: Set<string>;
  /** Pairs with so slow a way that probes fail. */
  readonly slow: Set<string>;
}

const NEVER = Number.NEGATIVE_INFINITY;

export function createTruth(world: World): Truth {
  const servers = new Map<string, number>();
  const pairs = new Map<string, number>();
  const dark = new Map<string, number>();
  const blackout = new Set<string>();
  const slow = new Set<string>();

  const isPairSick = (dispatcherId: string, serverId: string) => {
    const pair = `${dispatcherId} ${serverId}`;
    return slow.has(pair) || (world.network.isCut(dispatcherId, serverId) && !blackout.has(pair));
  };
  const isServerSick = (serverId: string) =>
    world.servers.find(({ id }) => id === serverId)?.agent?.state !== "running";

  const truth: Truth = {
    blackout,
    slow,
    registryChangedMs: NEVER,
    note() {
      for (const { id } of world.servers) {
        if (isServerSick(id)) servers.set(id, world.time.nowMs);
        for (const dispatcher of world.dispatchers) {
          const pair = `${dispatcher.id} ${id}`;
          if (isPairSick(dispatcher.id, id)) pairs.set(pair, world.time.nowMs);
          if (blackout.has(pair)) dark.set(pair, world.time.nowMs);
        }
      }
    },
    serverSickMs: (id) => (isServerSick(id) ? world.time.nowMs : (servers.get(id) ?? NEVER)),
    pairSickMs: (dispatcherId, serverId) =>
      isPairSick(dispatcherId, serverId)
        ? world.time.nowMs
        : (pairs.get(`${dispatcherId} ${serverId}`) ?? NEVER),
    pairDarkMs(dispatcherId, serverId) {
      const pair = `${dispatcherId} ${serverId}`;
      return blackout.has(pair) ? world.time.nowMs : (dark.get(pair) ?? NEVER);
    },
    pairSickOfAnyMs: (serverId) =>
      Math.max(NEVER, ...world.dispatchers.map(({ id }) => truth.pairSickMs(id, serverId))),
  };
  return truth;
}
