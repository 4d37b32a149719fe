import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "../../common/time.ts";
import {
  ObservationRecordSchema,
  ObserverRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import {
  type Observation,
  Observation_Verdict,
  ObservationSchema,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { counts, createObservers } from "../health/votes.ts";
import type { ConditionalWrite } from "../store/conditional-writes.ts";
import { StoreError } from "../store/store.ts";
import type { DispatcherEntry } from "../view/view.ts";
import { catchUp, contention, type OperationContext, requireFresh, writerOf } from "./context.ts";
import { leaseUnknown, requireEpoch } from "./registrations.ts";

export interface Report {
  readonly dispatcherId: string;
  readonly epoch: bigint;
  readonly observations: readonly Observation[];
  readonly withdrawn: boolean;
  readonly withdrawReason: string;
}

/** A dispatcher's own reports by two ways at the same moment are let pass this often. */
const MAX_TRIES = 5;

/**
 * Writes what a dispatcher saw of servers, on the lease of its registration and fenced by its epoch: a dead observer has
 * no vote. What says nothing new is not written, and what is about a former incarnation is passed over.
 * @throws {ConnectError} FAILED_PRECONDITION: EPOCH_EXPIRED or DISPATCHER_REPLACED
 */
export async function reportObservations(
  context: OperationContext,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  requireFresh(context);
  const { dispatcherId, epoch } = report;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const registration = await requireEpoch(context, dispatcherId, epoch, signal);
    const left = writesOf(context, report, registration);
    if (left.length === 0) return;
    await writeFenced(context, report, left, signal);
  }
  if (writesOf(context, report, await requireEpoch(context, dispatcherId, epoch, signal)).length > 0)
    throw contention(`what ${dispatcherId} reports`);
}

/** What observers report of one server, or of all when it is empty, by `server/observer` in that order. */
export function observationsFrom(
  { view, settings }: Pick<OperationContext, "view" | "settings">,
  serverId: string,
) {
  const observers = createObservers(settings.detection);
  const serverIds = serverId === "" ? [...view.observations.servers()].sort() : [serverId];
  return {
    /** From the server of a key on. */
    *entries(from = ""): Generator<[string, Observation]> {
      const [first = ""] = from.split("/");
      for (const id of serverIds) {
        if (id < first) continue;
        const server = view.servers.get(id)?.server;
        const entries = [...view.observations.ofServer(id)].sort(([a], [b]) => (a < b ? -1 : 1));
        for (const [dispatcherId, entry] of entries) {
          const key = `${id}/${dispatcherId}`;
          if (id === first && key <= from) continue;
          const isCounted = server !== undefined && counts(view, server, observers(view, id), entry);
          yield [key, create(ObservationSchema, { ...entry.observation, counts: isCounted })];
        }
      }
    },
  };
}

async function writeFenced(
  context: OperationContext,
  { dispatcherId, epoch }: Report,
  writes: readonly ConditionalWrite[],
  signal: AbortSignal,
) {
  const { keys, store } = context;
  const key = keys.dispatcher(dispatcherId);
  for (let from = 0; from < writes.length; ) {
    const batch = writes.slice(from, from + store.maxOperations - 1);
    try {
      const result = await context.write("observation", [{ key, modRevision: epoch }], batch, signal);
      await catchUp(context, result.revision, signal);
      if (result.fenced) return;
    } catch (err) {
      if (!(err instanceof StoreError) || err.code !== "lease_not_found") throw err;
      throw await leaseUnknown(context, { dispatcherId, epoch, again: "report again", cause: err }, signal);
    }
    from += batch.length;
  }
}

/** What is to be written so that the store has what the dispatcher reports. */
function writesOf(
  context: OperationContext,
  { dispatcherId, observations, withdrawn, withdrawReason }: Report,
  { lease }: DispatcherEntry,
): ConditionalWrite[] {
  const { keys, view } = context;
  const writer = writerOf(context);
  const votes = observations.flatMap((observation) =>
    voteWrite(context, dispatcherId, observation, { ...writer, lease }),
  );
  const standing = view.observations.withdrawalOf(dispatcherId);
  const key = keys.observer(dispatcherId);
  const modRevision = standing?.modRevision ?? 0n;
  // Votes that do not fit into one transaction must not count before they are withdrawn, nor after all but some are new.
  if (!withdrawn) return standing ? [...votes, { key, modRevision, value: undefined }] : votes;
  if (standing?.lease === lease && standing.reason === withdrawReason) return votes;
  const record = create(ObserverRecordSchema, { withdrawReason, attemptId: writer.attemptId });
  return [{ key, modRevision, value: toBinary(ObserverRecordSchema, record), lease }, ...votes];
}

function voteWrite(
  { keys, view }: OperationContext,
  dispatcherId: string,
  { serverId, incarnation, verdict, inARow, detail }: Observation,
  { nowMs, attemptId, lease }: { nowMs: number; attemptId: string; lease: bigint },
): ConditionalWrite[] {
  const server = view.servers.get(serverId)?.server;
  if (!server || incarnation < server.incarnation) return [];
  const standing = view.observations.ofServer(serverId).get(dispatcherId);
  const key = keys.observation(serverId, dispatcherId);
  const modRevision = standing?.modRevision ?? 0n;
  // That a server which is UP answers goes without saying.
  if (verdict === Observation_Verdict.OK && server.state === Server_State.UP)
    return standing ? [{ key, modRevision, value: undefined }] : [];
  const before = standing?.observation;
  const isNew =
    standing?.lease !== lease ||
    before?.incarnation !== incarnation ||
    before.verdict !== verdict ||
    before.inARow !== inARow;
  if (!isNew) return [];
  const observation = create(ObservationSchema, {
    serverId,
    incarnation,
    verdict,
    inARow,
    detail,
    dispatcherId,
    reportTime: timestampFromMs(nowMs),
  });
  const record = create(ObservationRecordSchema, { observation, attemptId });
  return [{ key, modRevision, value: toBinary(ObservationRecordSchema, record), lease }];
}
