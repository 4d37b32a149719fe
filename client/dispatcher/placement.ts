import { type Candidates, candidatesFor, type PlaceableServer, type PlaceableTask } from "./candidates.ts";

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

/** A dispatcher's place among those that are registered. */
export interface DispatcherPlace {
  readonly dispatcherCount: number;
  /** In order of IDs, from 0. */
  readonly rank: number;
}

/**
 * Plans where tasks go, all at once and the largest first. Of the servers that pass every filter and have room, a task
 * goes to the one with the lowest score: the share of its capacity that would be reserved, less or more a little for
 * preferred and avoided labels; of equal scores the lowest ID wins.
 *
 * Other dispatchers plan at the same moment from the same figures, and would all choose the server that looks emptiest.
 * So each plans what all do: the tasks are dealt out as the control plane deals them, position p to rank p mod count, and
 * between two tasks of its own a dispatcher sets aside, for scores only, what the others place in their turns, as if
 * their tasks were like its own. When they are, all plans together are the plan that one dispatcher would have made.
 *
 * Changes nothing, and gives the same plan for the same input whatever the order of `servers`; tasks of equal weight are
 * planned in the order given.
 */
export function planPlacements<T extends PlaceableTask>(
  tasks: readonly T[],
  servers: readonly PlaceableServer[],
  place: DispatcherPlace = { dispatcherCount: 1, rank: 0 },
): Plan<T> {
  const sorted = [...servers].sort((a, b) => compareIds(a.serverId, b.serverId));
  const loads = sorted.map(({ capacity, reservedUnits }) => {
    const free = capacity - reservedUnits;
    return { capacity, free, freeForAll: free };
  });
  const candidates = new Map<string, Candidates>();
  const plan: Plan<T> = { placed: [], unplaced: [] };
  const largestFirst = [...tasks].sort((a, b) => b.weight - a.weight);
  for (const task of largestFirst) {
    const demand = demandOf(task);
    const group = candidates.get(demand) ?? candidatesFor(task, sorted);
    candidates.set(demand, group);
    setAside(task.weight, group, loads, place.rank);
    const { best, fitting, tried } = choose(task, group, loads);
    if (best) {
      const { serverId, incarnation } = best.server;
      best.load.free -= task.weight;
      best.load.freeForAll -= task.weight;
      plan.placed.push({ task, serverId, incarnation, score: best.score, candidates: fitting });
    } else plan.unplaced.push({ task, reason: reasonOf(task, sorted.length, group, tried) });
    setAside(task.weight, group, loads, place.dispatcherCount - 1 - place.rank);
  }
  return plan;
}

/** The units left on a server. */
interface Load {
  readonly capacity: number;
  /** Less what this plan has placed. */
  free: number;
  /** Less what the other dispatchers are thought to place, too; may fall below 0. */
  freeForAll: number;
}

interface Choice {
  readonly server: PlaceableServer;
  readonly load: Load;
  readonly score: number;
}

function choose(task: PlaceableTask, group: Candidates, loads: readonly Load[]) {
  let best: Choice | undefined;
  let fitting = 0;
  let tried = 0;
  for (const { server, index, labelScore } of group.servers) {
    const load = loads[index];
    if (!load || task.triedServers?.has(serverKey(server))) {
      tried++;
      continue;
    }
    if (load.free < task.weight) continue;
    fitting++;
    const score = scoreOf(load, task.weight, labelScore);
    if (!best || score < best.score - SCORE_PRECISION) best = { server, load, score };
  }
  return { best, fitting, tried };
}

/** Takes the room of tasks that other dispatchers place, where they would place them. */
function setAside(weight: number, group: Candidates, loads: readonly Load[], count: number) {
  for (let turn = 0; turn < count; turn++) {
    let best: Load | undefined;
    let bestScore = Number.POSITIVE_INFINITY;
    for (const { index, labelScore } of group.servers) {
      const load = loads[index];
      if (!load || load.freeForAll < weight) continue;
      const score = scoreOf(load, weight, labelScore);
      if (score >= bestScore - SCORE_PRECISION) continue;
      best = load;
      bestScore = score;
    }
    if (!best) return;
    best.freeForAll -= weight;
  }
}

function scoreOf({ capacity, freeForAll }: Load, weight: number, labelScore: number): number {
  return 1 - (freeForAll - weight) / capacity + labelScore;
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

/** What a task asks of a server besides room, as a key. */
function demandOf({ region, requiredLabels, preferredLabels, avoidedLabels }: PlaceableTask): string {
  return JSON.stringify([region, ...[requiredLabels, preferredLabels, avoidedLabels].map(sortedEntries)]);
}

function sortedEntries(labels: Readonly<Record<string, string>>) {
  return Object.entries(labels).sort(([a], [b]) => compareIds(a, b));
}

function reasonOf(task: PlaceableTask, serverCount: number, group: Candidates, tried: number): string {
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
