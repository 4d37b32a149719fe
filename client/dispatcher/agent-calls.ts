import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "../../common/logging.ts";
import { reasonName, reasonOf } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Epoch } from "./epoch.ts";
import type { ServerTable } from "./server-table.ts";
import type { Assignment, Started, Target } from "./work-item.ts";

/** An assignment that the agent did not start. */
export interface NotStarted {
  readonly assignment: Assignment;
  readonly message: string;
  /** Whether the server was merely full, which is no failure. */
  readonly full: boolean;
}

/** Refusals that say something about the conference or the room, nothing about the health of the server. */
const HARMLESS = new Set([ErrorReason.CAPACITY_EXCEEDED, ErrorReason.DISPATCH_EPOCH_STALE]);

export interface StartOutcome {
  readonly started: readonly Started[];
  readonly notStarted: readonly NotStarted[];
  /** Whether the agent answered at all. */
  readonly answered: boolean;
  /** Whether the agent may have started what is in `notStarted` all the same. */
  readonly uncertain: boolean;
}

/** What a dispatcher asks of agents. */
export interface AgentCalls {
  /**
   * Starts conferences on one server. Failures are part of the outcome.
   * @throws {EpochOverError | DispatcherReplacedError} when the epoch is over
   * @throws the signal's reason when it aborts
   */
  start(target: Target, assignments: readonly Assignment[], signal: AbortSignal): Promise<StartOutcome>;
  /** Stops what was started in vain, as far as the agent can be reached: its own reconcile finds the rest. */
  stop(target: Target, assignments: readonly Assignment[], signal: AbortSignal): Promise<void>;
}

/** A healthy agent starts a batch within a fraction of this. */
const START_TIMEOUT_MS = 5_000;

const STOP_TIMEOUT_MS = 2_000;

export function createAgentCalls(epoch: Epoch, table: ServerTable, logger: Logger): AgentCalls {
  function unreachable(target: Target, assignments: readonly Assignment[], error: unknown): StartOutcome {
    table.startFailed(target.serverId);
    logger.warn({ err: error, ...target, conferences: assignments.length }, "start failed on a server");
    const message = `${target.serverId}: ${messageOf(error)}`;
    return {
      started: [],
      notStarted: assignments.map((assignment) => ({ assignment, message, full: false })),
      answered: false,
      uncertain: !isRefusal(error),
    };
  }

  return {
    async start(target, assignments, signal) {
      const agent = table.agent(target.serverId, target.incarnation);
      if (!agent) {
        return {
          ...unreachable(target, assignments, new Error("this life of the server is over")),
          uncertain: false,
        };
      }
      const starts = assignments.map(({ item: { task, weight } }) => ({
        conferenceId: task.conferenceId,
        dispatchEpoch: task.dispatchEpoch,
        weight,
        ...(task.validUntil ? { validUntil: task.validUntil } : {}),
      }));
      epoch.assertValid();
      let response: Awaited<ReturnType<typeof agent.startConferences>>;
      try {
        response = await agent.startConferences(
          { incarnation: target.incarnation, starts },
          { signal, timeoutMs: START_TIMEOUT_MS },
        );
      } catch (err) {
        epoch.assertValid();
        signal.throwIfAborted();
        return unreachable(target, assignments, err);
      }
      const results = new Map(response.results.map((result) => [result.conferenceId, result.outcome]));
      const started: Started[] = [];
      const notStarted: NotStarted[] = [];
      let unwell = false;
      for (const assignment of assignments) {
        const outcome = results.get(assignment.item.task.conferenceId);
        if (outcome?.case === "address") {
          started.push({ assignment, address: outcome.value });
          continue;
        }
        const reason = outcome?.case === "rejection" ? outcome.value.reason : ErrorReason.INTERNAL;
        const text = outcome?.case === "rejection" ? outcome.value.message : "the agent gave no result";
        unwell ||= !HARMLESS.has(reason);
        notStarted.push({
          assignment,
          message: `${target.serverId}: ${reasonName(reason)}: ${text}`,
          full: reason === ErrorReason.CAPACITY_EXCEEDED,
        });
      }
      if (unwell) table.startFailed(target.serverId);
      else table.startSucceeded(target.serverId);
      if (notStarted.length > 0) {
        logger.warn(
          { ...target, conferences: notStarted.length, detail: notStarted[0]?.message },
          "an agent refused to start conferences",
        );
      }
      return { started, notStarted, answered: true, uncertain: false };
    },

    async stop(target, assignments, signal) {
      const agent = table.agent(target.serverId, target.incarnation);
      if (!agent || assignments.length === 0 || !epoch.valid()) return;
      const stops = assignments.map(({ item: { task } }) => ({
        conferenceId: task.conferenceId,
        dispatchEpoch: task.dispatchEpoch,
      }));
      try {
        await agent.stopConferences({ stops }, { signal, timeoutMs: STOP_TIMEOUT_MS });
      } catch (err) {
        logger.warn({ err, ...target, conferences: stops.length }, "could not stop conferences on a server");
      }
    },
  };
}

/** Whether the agent said that it has done nothing. */
function isRefusal(error: unknown): boolean {
  const reason = reasonOf(error);
  if (reason !== undefined) return reason !== ErrorReason.INTERNAL;
  return error instanceof ConnectError && error.code === Code.InvalidArgument;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
