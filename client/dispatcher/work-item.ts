import { timestampMs } from "../../common/time.ts";
import { Dispatch_MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import type { Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Leaving, PlaceableTask } from "./candidates.ts";
import type { Hold } from "./reservations.ts";

/** A task on its way through the pipeline. */
export interface WorkItem extends PlaceableTask {
  readonly task: Task;
  /** Keys of the servers it was tried on. */
  readonly triedServers: Set<string>;
  /** What each failed start said. */
  readonly failures: string[];
}

/** The order of planning: who has lost their conference waits; who is drained goes on where they are meanwhile. */
const URGENCY = { lostRunning: 0, lostSoon: 1, ordinary: 2, drain: 3 };

/** @param nowMs since 1970 */
export function createWorkItem(task: Task, nowMs: number): WorkItem {
  const leaving = leavingOf(task);
  return {
    task,
    urgency: urgencyOf(task, nowMs),
    ...(leaving ? { leaving } : {}),
    // A weight of 0 would take no room anywhere.
    weight: Math.max(1, task.weight),
    region: task.region,
    requiredLabels: task.requiredLabels,
    preferredLabels: task.preferredLabels,
    avoidedLabels: task.avoidedLabels,
    triedServers: new Set(),
    failures: [],
  };
}

/** Whether it runs elsewhere while it is moved, so that nothing is lost when the move comes to nothing. */
export function runsMeanwhile({ moveReason }: Task): boolean {
  return moveReason === Dispatch_MoveReason.DRAIN;
}

function urgencyOf(task: Task, nowMs: number): number {
  if (task.moveReason === Dispatch_MoveReason.UNSPECIFIED) return URGENCY.ordinary;
  if (runsMeanwhile(task)) return URGENCY.drain;
  const started = task.startTime !== undefined && timestampMs(task.startTime) <= nowMs;
  return started ? URGENCY.lostRunning : URGENCY.lostSoon;
}

/** The table may not show yet that a lost server is down; another life of a server is as good as any. */
function leavingOf({ moveReason, previousServerId }: Task): Leaving | undefined {
  if (previousServerId === "") return undefined;
  if (moveReason === Dispatch_MoveReason.DRAIN) return { serverId: previousServerId, forGood: true };
  if (moveReason === Dispatch_MoveReason.SERVER_DOWN) return { serverId: previousServerId, forGood: false };
  return undefined;
}

/** One life of a conference server. */
export interface Target {
  readonly serverId: string;
  readonly incarnation: bigint;
}

/** An item, the server chosen for it, and the units set aside there. */
export interface Assignment extends Target {
  readonly item: WorkItem;
  readonly hold: Hold;
}

/** An assignment that the agent has started. */
export interface Started {
  readonly assignment: Assignment;
  /** Where participants join. */
  readonly address: string;
}
