import { reasonName } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { AgentCalls, NotStarted } from "./agent-calls.ts";
import { type CommitOptions, type CommitOutcome, commitDispatches } from "./commit.ts";
import type { Pacer } from "./pacer.ts";
import { serverKey } from "./placement.ts";
import { createSlots } from "./slots.ts";
import type { DispatcherStats } from "./stats.ts";
import type { WorkGroup } from "./work-group.ts";
import type { Assignment, Started, Target } from "./work-item.ts";

/** Brings the assignments of one server from planned to an outcome; resolves when all are started or handed back. */
export type ServerLane = (target: Target, assignments: readonly Assignment[]) => Promise<void>;

/** What a lane tells of its assignments. */
export interface LaneOutcome {
  /** It is in the dispatch table. */
  committed(assignment: Assignment): void;
  /** It is not this dispatcher's any more. */
  lost(assignment: Assignment): void;
  /** It is to be placed on another server, or given back. */
  retry(assignment: Assignment): void;
  /** The control plane or an agent shows that the table is not up to date. */
  figuresAreWrong(): void;
  /** Follows one of the first three: nothing more will be told of it. */
  done(assignment: Assignment): void;
}

export interface ServerLaneOptions extends CommitOptions {
  readonly agents: AgentCalls;
  readonly pacer: Pacer;
  readonly group: WorkGroup;
  /** Calls are made under this signal. */
  readonly work: AbortSignal;
  /** Aborts when nothing more shall be started. */
  readonly starting: AbortSignal;
  readonly stats: DispatcherStats;
  readonly outcome: LaneOutcome;
}

/** Conferences in one StartConferences, and so in one CommitDispatches. */
const BATCH_SIZE = 100;

/** How many servers are called at once: enough to hide slow ones, few enough for one process. */
const MAX_PARALLEL_SERVERS = 16;

/** Rejections that mean: not on this server. All others mean that the conference is no longer this dispatcher's. */
const ELSEWHERE = new Set([
  ErrorReason.CAPACITY_EXCEEDED,
  ErrorReason.SERVER_UNAVAILABLE,
  ErrorReason.SERVER_NOT_FOUND,
  ErrorReason.INCARNATION_EXPIRED,
  ErrorReason.INVALID_FIELD,
]);

export function createServerLane(options: ServerLaneOptions): ServerLane {
  const { agents, pacer, group, work, starting, stats, outcome, logger } = options;
  const slots = createSlots(MAX_PARALLEL_SERVERS);
  const batchSize = Math.min(BATCH_SIZE, pacer.largestTake);

  function retry(assignment: Assignment, failure?: string) {
    assignment.hold.release();
    if (failure !== undefined) assignment.item.failures.push(failure);
    outcome.retry(assignment);
    outcome.done(assignment);
  }

  function failed({ assignment, message, full }: NotStarted) {
    if (!full) stats.startFailures++;
    else outcome.figuresAreWrong();
    retry(assignment, full ? undefined : message);
  }

  function settled({ assignment }: Started, result: CommitOutcome, refused: Assignment[]) {
    if (result.kind === "committed") {
      assignment.hold.committed(result.revision);
      outcome.committed(assignment);
      outcome.done(assignment);
      return;
    }
    const { reason, message } = result;
    stats.rejected++;
    refused.push(assignment);
    logger.warn(
      { conferenceId: assignment.item.task.conferenceId, reason: reasonName(reason), detail: message },
      "dispatch refused",
    );
    if (ELSEWHERE.has(reason)) {
      outcome.figuresAreWrong();
      const text = `${assignment.serverId}: ${reasonName(reason)}: ${message}`;
      return retry(assignment, reason === ErrorReason.INVALID_FIELD ? text : undefined);
    }
    assignment.hold.release();
    outcome.lost(assignment);
    outcome.done(assignment);
  }

  async function commit(target: Target, batch: readonly Started[]) {
    const refused: Assignment[] = [];
    await commitDispatches(options, batch, work, (started, result) => settled(started, result, refused));
    await agents.stop(target, refused, work);
  }

  return async (target, assignments) => {
    for (let from = 0; from < assignments.length; from += batchSize) {
      const batch = assignments.slice(from, from + batchSize);
      let result: Awaited<ReturnType<AgentCalls["start"]>>;
      try {
        result = await slots.run(starting, async () => {
          await pacer.take(batch.length, starting);
          // What is sent is not cut off when starting ends: it would be unknown whether it had begun.
          return agents.start(target, batch, work);
        });
      } catch (err) {
        if (work.aborted || !starting.aborted) throw err;
        for (const assignment of assignments.slice(from)) retry(assignment);
        return;
      }
      stats.started += result.started.length;
      if (result.started.length > 0) group.start(() => commit(target, result.started));
      if (result.uncertain) {
        const doubtful = result.notStarted.map(({ assignment }) => assignment);
        group.start(() => agents.stop(target, doubtful, work));
      }
      result.notStarted.forEach(failed);
      if (!result.answered) {
        outcome.figuresAreWrong();
        // The rest would wait for the same deadline; the server has a penalty now, so it is planned elsewhere.
        for (const assignment of assignments.slice(from + batchSize)) {
          assignment.item.triedServers.delete(serverKey(target));
          retry(assignment);
        }
        return;
      }
    }
  };
}
