import { candidatesFor, type PlaceableServer, type PlaceableTask } from "./candidates.ts";

/** A task and the server chosen for it. */
export interface Placement<T> {
  readonly task: T;
  readonly serverId: string;
  readonly incarnation: bigint;
  /** The score it won with; lower is better. */
  readonly score: number;
  /** How many servers could have taken it. */
  readonly candidates: number;
}

/** A task for which there is no server now. */
export interface Unplaced<T> {
  readonly task: T;
  /** How many servers there are and what is wrong with each kind, for people. */
  readonly reason: string;
}

export interface Plan<T> {
  readonly placed: Placement<T>[];
  readonly unplaced: Unplaced<T>[];
}

export interface PlanOptions {
  /**
   * At which place in the ring of servers (sorted by ID) the first of `count` equal tasks begins when servers score the
   * same. Dispatchers that plan at once from the same numbers begin at different places, see `ringStart`. Default 0.
   */
  readonly ringStart?: (count: number) => number;
}

/**
 * Plans where tasks go, all at once and the largest first. Of the servers that pass every filter and have room, a task
 * goes to the one with the lowest score: the share of its capacity that would be reserved, less or more a little for
 * preferred and avoided labels; equal scores are settled along the ring. Changes nothing, and gives the same plan for
 * the same input whatever the order of `servers`; tasks of equal weight are planned in the order given.
 */
export function planPlacements<T extends PlaceableTask>(
  tasks: readonly T[],
  servers: readonly PlaceableServer[],
  options: PlanOptions = {},
): Plan<T> {
  const { ringStart = () => 0 } = options;
  const ring = [...servers].sort((a, b) => compareIds(a.serverId, b.serverId));
  const freeUnits = ring.map(({ capacity, reservedUnits }) => capacity - reservedUnits);
  const groups = groupByDemand(tasks);
  const candidates = new Map(
    [...groups].map(([demand, { first, count }]) => [demand, candidatesFor(first, ring, ringStart(count))]),
  );
  const placed: Placement<T>[] = [];
  const unplaced: Unplaced<T>[] = [];
  const largestFirst = [...tasks].sort((a, b) => b.weight - a.weight);
  for (const task of largestFirst) {
    const group = candidates.get(demandOf(task));
    if (!group) continue;
    let best: (typeof group.servers)[number] | undefined;
    let bestScore = Number.POSITIVE_INFINITY;
    let fitting = 0;
    let tried = 0;
    for (const candidate of group.servers) {
      const { server, index, labelScore } = candidate;
      if (task.triedServers?.has(serverKey(server))) {
        tried++;
        continue;
      }
      const left = (freeUnits[index] ?? 0) - task.weight;
      if (left < 0) continue;
      fitting++;
      const score = 1 - left / server.capacity + labelScore;
      // Strictly lower: of equals the first along the ring stays.
      if (score < bestScore - SCORE_PRECISION) {
        best = candidate;
        bestScore = score;
      }
    }
    if (!best) {
      unplaced.push({ task, reason: reasonOf(task, ring.length, group, tried) });
      continue;
    }
    freeUnits[best.index] = (freeUnits[best.index] ?? 0) - task.weight;
    const { serverId, incarnation } = best.server;
    placed.push({ task, serverId, incarnation, score: bestScore, candidates: fitting });
  }
  return { placed, unplaced };
}

/** Two scores closer than this differ by rounding only: capacities are at most 1e9 units. */
const SCORE_PRECISION = 1e-12;

/** Names one life of a server. */
export function serverKey({
  serverId,
  incarnation,
}: Pick<PlaceableServer, "serverId" | "incarnation">): string {
  return `${serverId}@${incarnation}`;
}

/** A dispatcher's place in the round that it asked the control plane about. */
export interface RoundPlace {
  readonly total: number;
  readonly dispatcherCount: number;
  /** From 0. */
  readonly rank: number;
  readonly share: number;
}

/**
 * Where in the ring this dispatcher begins to deal out `count` tasks, as if all dispatchers dealt theirs out one after
 * the other in order of rank: then together they go round the ring without a gap. Exact when all place their whole,
 * equally weighted share; else each counts on the others placing as many as itself.
 */
export function ringStart({ total, dispatcherCount, rank, share }: RoundPlace, count: number): number {
  const remainder = dispatcherCount > 0 ? total % dispatcherCount : 0;
  // The first `remainder` ranks have one more than the others.
  return rank * count + (count === share && rank >= remainder ? remainder : 0);
}

/** What a task asks of a server besides room, as a key. */
function demandOf({ region, requiredLabels, preferredLabels, avoidedLabels }: PlaceableTask): string {
  return JSON.stringify([region, ...[requiredLabels, preferredLabels, avoidedLabels].map(sortedEntries)]);
}

function sortedEntries(labels: Readonly<Record<string, string>>) {
  return Object.entries(labels).sort(([a], [b]) => compareIds(a, b));
}

function groupByDemand<T extends PlaceableTask>(tasks: readonly T[]) {
  const groups = new Map<string, { readonly first: T; count: number }>();
  for (const task of tasks) {
    const demand = demandOf(task);
    const group = groups.get(demand);
    if (group) group.count++;
    else groups.set(demand, { first: task, count: 1 });
  }
  return groups;
}

function reasonOf(
  task: PlaceableTask,
  serverCount: number,
  group: ReturnType<typeof candidatesFor>,
  tried: number,
): string {
  if (serverCount === 0) return "no conference server is registered";
  const noRoom = group.servers.length - tried;
  const parts = [...group.refused].map(([why, count]) => `${count} ${why}`);
  if (tried > 0) parts.push(`${tried} tried before`);
  if (noRoom > 0) parts.push(`${noRoom} without room for ${task.weight} units`);
  return `of ${serverCount} servers: ${parts.join(", ")}`;
}

function compareIds(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
