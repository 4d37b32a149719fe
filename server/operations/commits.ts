import { ConnectError } from "@connectrpc/connect";
import { createMutex } from "../../common/mutex.ts";
import { reasonOf } from "../../common/rpc/status.ts";
import type { Dispatch } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import type { NewDispatch } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { judgeDispatch, type Refusal } from "../dispatch/judge-dispatch.ts";
import { reasonAtCommit } from "../dispatch/moves.ts";
import { dispatchRecord, encodeRecord } from "../dispatch/records.ts";
import type { ConditionalWrite, Fence, WriteResult } from "../store/conditional-writes.ts";
import { StoreError } from "../store/store.ts";
import { reservationFences } from "./capacity-fence.ts";
import { catchUp, type OperationContext, requireFresh, writerOf } from "./context.ts";
import { reachKnown } from "./known-revision.ts";
import { requireEpoch } from "./registrations.ts";

export type CommitOutcome =
  | { readonly kind: "dispatch"; readonly dispatch: Dispatch }
  | { readonly kind: "refusal"; readonly refusal: Refusal };

/** Writes the dispatch table; one for the whole replica, so that its own commits do not conflict with each other. */
export interface Commits {
  /** The outcome of each dispatch in the order given. */
  commit(
    dispatcherId: string,
    epoch: bigint,
    dispatches: readonly NewDispatch[],
    signal: AbortSignal,
  ): Promise<CommitOutcome[]>;
}

/** Conflicts with other replicas that commit to the same servers, before what is left is refused. */
const MAX_CONFLICTS = 50;

export function createCommits(context: OperationContext): Commits {
  const { view, keys, store, settings } = context;
  const mutex = createMutex();

  return {
    async commit(dispatcherId, epoch, dispatches, signal) {
      requireFresh(context);
      await requireEpoch(context, dispatcherId, epoch, signal);
      // A claim made through another replica is judged once it is in this one's view.
      await reachKnown(context, newestClaim(dispatches), signal);
      using _lock = await mutex.acquire(signal);
      const outcomes = new Map<NewDispatch, CommitOutcome>();
      for (let conflicts = 0; outcomes.size < dispatches.length; ) {
        const pending = dispatches.filter((dispatch) => !outcomes.has(dispatch));
        const batch = selectBatch(pending, dispatcherId, epoch, outcomes);
        if (batch.length === 0) continue;
        if (conflicts === MAX_CONFLICTS) {
          for (const dispatch of batch) outcomes.set(dispatch, refused(CONTENTION));
          continue;
        }
        const done = await writeDispatches(dispatcherId, epoch, batch, signal);
        if (done === "fenced") {
          const ended = await requireEpoch(context, dispatcherId, epoch, signal).then(
            () => undefined,
            asRefusal,
          );
          if (ended)
            for (const dispatch of pending)
              if (!outcomes.has(dispatch)) outcomes.set(dispatch, refused(ended));
        }
        // What was written is found in the view and judged a success; what was not is judged anew.
        if (done !== "all") conflicts += 1;
      }
      return dispatches.map((dispatch) => outcomes.get(dispatch) ?? refused(CONTENTION));
    },
  };

  /**
   * Judges what is pending against the view. Notes the outcome where it is settled, and returns those to be written, as
   * many as fit one transaction and the servers have room for.
   */
  function selectBatch(
    pending: readonly NewDispatch[],
    dispatcherId: string,
    epoch: bigint,
    outcomes: Map<NewDispatch, CommitOutcome>,
  ) {
    const batch: NewDispatch[] = [];
    const added = new Map<string, number>();
    for (const dispatch of pending) {
      const servers = added.has(dispatch.serverId) ? added.size : added.size + 1;
      // One compare for the dispatcher, two for each server, one for each conference.
      if (1 + 2 * servers + batch.length + 1 > store.maxOperations) break;
      const verdict = judgeDispatch(
        view,
        { dispatcherId, epoch },
        dispatch,
        added.get(dispatch.serverId) ?? 0,
      );
      if (verdict.kind === "write") {
        added.set(dispatch.serverId, (added.get(dispatch.serverId) ?? 0) + verdict.weight);
        batch.push(dispatch);
      } else outcomes.set(dispatch, verdict);
    }
    return batch;
  }

  async function writeDispatches(
    dispatcherId: string,
    epoch: bigint,
    batch: readonly NewDispatch[],
    signal: AbortSignal,
  ): Promise<"all" | "some" | "fenced"> {
    const writer = writerOf(context);
    const fences: Fence[] = [{ key: keys.dispatcher(dispatcherId), modRevision: epoch }];
    for (const serverId of new Set(batch.map((dispatch) => dispatch.serverId))) {
      fences.push(...reservationFences(context, serverId, writer));
    }
    const writes = batch.flatMap((dispatch): ConditionalWrite[] => {
      const entry = view.conferences.get(dispatch.conferenceId);
      if (!entry) return [];
      const value = encodeRecord(
        dispatchRecord(entry, dispatch, settings.graceMs, reasonAtCommit(view, entry), writer),
      );
      return [{ key: keys.conference(entry.id), modRevision: entry.modRevision, value }];
    });
    let result: WriteResult;
    try {
      result = await context.write("commit", fences, writes, signal);
    } catch (err) {
      // The store has just learned that it takes fewer, and the next batch is chosen by that.
      if (err instanceof StoreError && err.code === "too_many_operations") return "some";
      throw err;
    }
    await catchUp(context, result.revision, signal);
    if (result.fenced) return "fenced";
    return result.written.size === writes.length ? "all" : "some";
  }
}

/** The dispatch epoch of a claim is the revision that made it. */
export function newestClaim(items: readonly { readonly dispatchEpoch: bigint }[]): bigint {
  let newest = 0n;
  for (const { dispatchEpoch } of items) if (dispatchEpoch > newest) newest = dispatchEpoch;
  return newest;
}

const CONTENTION: Refusal = {
  reason: ErrorReason.CONTENTION,
  message: "other commits to the same server kept coming first; commit again",
};

function refused(refusal: Refusal): CommitOutcome {
  return { kind: "refusal", refusal };
}

/** That an epoch is over is an outcome; that it could not be asked is not. */
function asRefusal(error: unknown): Refusal {
  const reason = reasonOf(error);
  if (reason !== ErrorReason.EPOCH_EXPIRED && reason !== ErrorReason.DISPATCHER_REPLACED) throw error;
  return { reason, message: ConnectError.from(error).rawMessage };
}
