import { seededRandom } from "../support/seeded-random.ts";

export const FAULT_KINDS = [
  "etcd-kill-leader",
  "etcd-kill-follower",
  "etcd-pause-leader",
  "etcd-pause-follower",
  "etcd-lose-quorum",
  "replica-kill",
  "replica-pause",
  "store-cut",
  "store-drop-replies",
  "store-stall-to-server",
  "store-stall-to-client",
  "store-refuse",
  "store-delay",
  "client-cut",
  "client-drop-replies",
  "client-stall",
  "dispatcher-vanish",
  "dispatcher-oversleep",
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

export interface PlannedFault {
  /** From the beginning of the storm. */
  readonly atMs: number;
  readonly kind: FaultKind;
  /** Chooses among the members, replicas or dispatchers that it can strike. */
  readonly target: number;
  /** How long it lasts. */
  readonly durationMs: number;
}

/** Faults follow each other closely enough to overlap, and leave some room for work between. */
const MEAN_GAP_MS = 600;

/** From a blink to longer than leases, elections and watchdogs take. */
const SHORTEST_MS = 200;
const LONGEST_MS = 5_000;

/** A whole cluster's silence stops everything, so it is short and rare. */
const QUORUM_LOSS_MS = 2_500;
const QUORUM_LOSS_SHARE = 0.03;

/** The faults of a storm; the same for the same seed and length. */
export function planFaults(seed: number, lengthMs: number): readonly PlannedFault[] {
  const random = seededRandom(seed);
  const common = FAULT_KINDS.filter((kind) => kind !== "etcd-lose-quorum");
  const faults: PlannedFault[] = [];
  for (let atMs = 1_000; atMs < lengthMs; atMs += 2 * MEAN_GAP_MS * random()) {
    const quorum = random() < QUORUM_LOSS_SHARE;
    const kind = quorum ? "etcd-lose-quorum" : common[Math.floor(random() * common.length)];
    // Short ones are more frequent than long ones.
    const durationMs = quorum ? QUORUM_LOSS_MS : SHORTEST_MS * (LONGEST_MS / SHORTEST_MS) ** random();
    const target = Math.floor(random() * 1_000);
    if (kind) faults.push({ atMs, kind, target, durationMs });
  }
  return faults;
}
