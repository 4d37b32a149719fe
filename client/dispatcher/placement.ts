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

/** A dispatcher's place in the round that it asked the control plane about. */
export interface DispatcherPlace {
  readonly dispatcherCount: number;
  /** In order of IDs, from 0. */
  readonly rank: number;
  readonly total: number;
  readonly share: number;
}

/** The place of a dispatcher that is alone. */
export const ALONE: DispatcherPlace = { dispatcherCount: 1, rank: 0, total: 0, share: 0 };

/**
 * Plans where tasks go, all at once: the most urgent first, of these the largest. Of the servers that pass every filter and have room, a task
 * goes to the one with the lowest score: the share of its capacity that would be reserved, less or more a little for
 * preferred and avoided labels.
 *
 * Other dispatchers plan at the same moment from the same figures, and together they would fill the server that looks
 * emptiest far above the others. So what a dispatcher has placed since the figures were read counts, for scores only, as
 * often as there are dispatchers: as if each did the same. Equal scores are settled along the ring of servers sorted by
 * ID, in which every dispatcher begins where the one before it in rank leaves off, see `ringStart`.
 *
 * Changes nothing, and gives the same plan for the same input whatever the order of `servers`; tasks of equal urgency
 * and weight are planned in the order given.
 */
export function planPlacements<T extends PlaceableTask>(
  tasks: readonly T[],
  servers: readonly PlaceableServer[],
  place: DispatcherPlace = ALONE,
): Plan<T> {
  const ring = [...servers].sort((a, b) => compareIds(a.serverId, b.serverId));
  const others = Math.max(0, place.dispatcherCount - 1);
  const loads = ring.map(({ reservedUnits, ownUnits }) => ({
    units: reservedUnits,
    assumed: reservedUnits + others * ownUnits,
  }));
  const candidates = new Map<string, Candidates>();
  for (const [demand, { first, count }] of groupByDemand(tasks)) {
    candidates.set(demand, candidatesFor(first, ring, ringStart(place, count)));
  }
  const plan: Plan<T> = { placed: [], unplaced: [] };
  for (const task of [...tasks].sort(compareUrgency)) {
    const group = candidates.get(demandOf(task));
    if (!group) continue;
    const { best, fitting, tried } = choose(task, group, loads);
    if (!best) {
      plan.unplaced.push({ task, reason: reasonOf(task, ring.length, group, tried) });
      continue;
    }
    const { serverId, incarnation } = best.server;
    best.load.units += task.weight;
    best.load.assumed += task.weight * (1 + others);
    plan.placed.push({ task, serverId, incarnation, score: best.score, candidates: fitting });
  }
  return plan;
}

/**
 * Where in the ring this dispatcher begins to deal out `count` equal tasks, as if all dispatchers dealt theirs out one
 * after the other in order of rank: then together they go round without a gap. Exact when all place their whole share;
 * else each counts on the others placing as many as itself.
 */
export function ringStart({ total, dispatcherCount, rank, share }: DispatcherPlace, count: number): number {
  const remainder = dispatcherCount > 0 ? total % dispatcherCount : 0;
  // The first `remainder` ranks have one more than the others.
  return rank * count + (count === share && rank >= remainder ? remainder : 0);
}

/** What is taken on a server. */
interface Load {
  units: number;
  /** With what the other dispatchers are thought to have placed. */
  assumed: number;
}

function choose(task: PlaceableTask, group: Candidates, loads: readonly Load[]) {
  let best: { readonly server: PlaceableServer; readonly load: Load; readonly score: number } | undefined;
  let fitting = 0;
  let tried = 0;
  for (const { server, index, labelScore } of group.servers) {
    const load = loads[index];
    const left = server.serverId === task.leaving?.serverId;
    if (!load || (left && task.leaving?.forGood) || task.triedServers?.has(serverKey(server))) {
      tried++;
      continue;
    }
    if (load.units + task.weight > server.capacity) continue;
    fitting++;
    const lastResort = (left ? LEFT_SCORE : 0) + (server.reach === "doubt" ? DOUBT_SCORE : 0);
    const score = (load.assumed + task.weight) / server.capacity + labelScore + lastResort;
    // Strictly lower: of equals the first along the ring stays.
    if (!best || score < best.score - SCORE_PRECISION) best = { server, load, score };
  }
  return { best, fitting, tried };
}

/** Two scores closer than this differ by rounding only: capacities are at most 1e9 units. */
const SCORE_PRECISION = 1e-12;

/** More than any load that others may be thought to have placed: such a server is chosen only when no other fits. */
const DOUBT_SCORE = 1e3;
const LEFT_SCORE = 1e4;

/** The order in which tasks are planned: the most urgent first, of these the largest. */
export function compareUrgency(
  a: Pick<PlaceableTask, "urgency" | "weight">,
  b: Pick<PlaceableTask, "urgency" | "weight">,
): number {
  return (a.urgency ?? 0) - (b.urgency ?? 0) || b.weight - a.weight;
}

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

function reasonOf(task: PlaceableTask, serverCount: number, group: Candidates, tried: number): string {
  if (serverCount === 0) return "no conference server is registered";
  const noRoom = group.servers.length - tried;
  const parts = [...group.refused].map(([why, count]) => `${count} ${why}`);
  if (tried > 0) parts.push(`${tried} tried before${task.leaving ? " or left" : ""}`);
  if (noRoom > 0) parts.push(`${noRoom} without room for ${task.weight} units`);
  return `of ${serverCount} servers: ${parts.join(", ")}`;
}

function compareIds(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
