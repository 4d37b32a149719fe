import type { Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { PlaceableTask } from "./candidates.ts";
import type { Hold } from "./reservations.ts";

/** A task on its way through the pipeline. */
export interface WorkItem extends PlaceableTask {
  readonly task: Task;
  /** Keys of the servers it was tried on. */
  readonly triedServers: Set<string>;
  /** What each failed start said. */
  readonly failures: string[];
}

export function createWorkItem(task: Task): WorkItem {
  return {
    task,
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
