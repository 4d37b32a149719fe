import { Code, ConnectError } from "@connectrpc/connect";
import { reasonOf, statusError } from "../../common/rpc/status.ts";
import { type Conference, Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import {
  BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy,
  BatchCreateResult_Outcome as Outcome,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Refusal } from "../dispatch/judge-dispatch.ts";
import { encodeRecord, nextRecord, type Writer } from "../dispatch/records.ts";
import {
  isScheduledAs,
  newRecord,
  rescheduleRecord,
  SCHEDULED_FIELDS,
  type ScheduledField,
} from "../dispatch/schedule.ts";
import type { ConditionalWrite } from "../store/conditional-writes.ts";
import { type ConferenceEntry, effectiveState, isPlaced } from "../view/conference-entry.ts";
import { capacityFence } from "./capacity-fence.ts";
import { catchUp, type OperationContext, requireFresh, writerOf } from "./context.ts";
import { updateConference } from "./update-conference.ts";

/** A conference to schedule, complete with its ID. */
export interface Creation {
  readonly scheduled: Conference;
  readonly requestId: string;
}

export interface CreationResult {
  readonly outcome: Outcome;
  readonly refusal?: Refusal;
}

/** Schedules conferences, as many a transaction as the store takes. The results come in the order given. */
export async function createConferences(
  context: OperationContext,
  creations: readonly Creation[],
  policy: ConflictPolicy,
  signal: AbortSignal,
): Promise<CreationResult[]> {
  requireFresh(context);
  const { store, keys, view } = context;
  const results = new Map<Creation, CreationResult>();
  const fresh = creations.filter(({ scheduled }) => !view.conferences.has(scheduled.conferenceId));
  for (let from = 0; from < fresh.length; from += store.maxOperations) {
    const part = fresh.slice(from, from + store.maxOperations);
    const writer = writerOf(context);
    const writes = part.map(({ scheduled, requestId }): ConditionalWrite => {
      const value = encodeRecord(newRecord(scheduled, requestId, writer));
      return { key: keys.conference(scheduled.conferenceId), modRevision: 0n, value };
    });
    const result = await context.write("conference", [], writes, signal);
    await catchUp(context, result.revision, signal);
    for (const creation of part) {
      const key = keys.conference(creation.scheduled.conferenceId);
      if (!result.fenced && result.written.has(key)) results.set(creation, { outcome: Outcome.CREATED });
    }
  }
  for (const creation of creations) {
    if (results.has(creation)) continue;
    results.set(creation, await meetExisting(context, creation, policy, signal));
  }
  return creations.map((creation) => results.get(creation) ?? { outcome: Outcome.REJECTED });
}

/** What becomes of a conference whose ID exists. */
async function meetExisting(
  context: OperationContext,
  { scheduled, requestId }: Creation,
  policy: ConflictPolicy,
  signal: AbortSignal,
): Promise<CreationResult> {
  const id = scheduled.conferenceId;
  if (policy !== ConflictPolicy.UPDATE) {
    const sameRequest = requestId !== "" && context.view.conferences.get(id)?.record.requestId === requestId;
    if (sameRequest) return { outcome: Outcome.CREATED };
    const message = `conference ${id} exists and came from another request`;
    return { outcome: Outcome.REJECTED, refusal: { reason: ErrorReason.CONFERENCE_EXISTS, message } };
  }
  let changed = false;
  try {
    await updateConference(
      context,
      id,
      (entry, writer) => {
        const { state } = entry.conference;
        changed = false;
        // A calendar still lists what is over; it is left as it ended.
        if (state === Conference_State.ENDED || state === Conference_State.FAILED) return undefined;
        if (state !== Conference_State.CANCELLED && isScheduledAs(entry, scheduled)) return undefined;
        changed = true;
        return reschedule(context, entry, scheduled, SCHEDULED_FIELDS, writer);
      },
      signal,
    );
  } catch (err) {
    const reason = reasonOf(err);
    if (reason !== ErrorReason.CAPACITY_EXCEEDED && reason !== ErrorReason.CONTENTION) throw err;
    return { outcome: Outcome.REJECTED, refusal: { reason, message: ConnectError.from(err).rawMessage } };
  }
  return { outcome: changed ? Outcome.UPDATED : Outcome.UNCHANGED };
}

/** Changes what was scheduled, as far as the conference's server has room for it. */
export function reschedule(
  context: OperationContext,
  entry: ConferenceEntry,
  given: Conference,
  fields: readonly ScheduledField[],
  writer: Writer,
) {
  const record = rescheduleRecord(entry, given, fields, context.settings.graceMs, writer);
  const addedUnits = (record.conference?.weight ?? 0) - entry.conference.weight;
  const serverId = entry.conference.dispatch?.serverId;
  if (!isPlaced(entry) || addedUnits <= 0 || serverId === undefined) return { record };
  return { record, fences: capacityFence(context, serverId, addedUnits, writer) };
}

/** Calls a conference off, wherever it stands. */
export function cancelConference(context: OperationContext, conferenceId: string, signal: AbortSignal) {
  return updateConference(
    context,
    conferenceId,
    (entry, writer) => {
      const { state } = entry.conference;
      if (state === Conference_State.CANCELLED) return undefined;
      if (state === Conference_State.ENDED) throw stateConflict(entry, "cancelled");
      return moved(entry, Conference_State.CANCELLED, writer);
    },
    signal,
  );
}

/** Ends an active conference. */
export function endConference(context: OperationContext, conferenceId: string, signal: AbortSignal) {
  return updateConference(
    context,
    conferenceId,
    (entry, writer) => {
      if (entry.conference.state === Conference_State.ENDED) return undefined;
      if (!isPlaced(entry)) throw stateConflict(entry, "ended");
      return moved(entry, Conference_State.ENDED, writer);
    },
    signal,
  );
}

/** Makes a failed conference due again, with clean counts. */
export function requeueConference(context: OperationContext, conferenceId: string, signal: AbortSignal) {
  return updateConference(
    context,
    conferenceId,
    (entry, writer) => {
      if (entry.conference.state !== Conference_State.FAILED) throw stateConflict(entry, "requeued");
      const next = moved(entry, Conference_State.SCHEDULED, writer);
      next.record.retryTimeMs = 0n;
      next.record.wantsRoom = false;
      next.conference.failedAttempts = 0;
      return next;
    },
    signal,
  );
}

export function moved(entry: ConferenceEntry, state: Conference_State, writer: Writer) {
  const next = nextRecord(entry, writer);
  next.conference.state = state;
  return next;
}

export function stateConflict(entry: ConferenceEntry, verb: string) {
  const state = Conference_State[effectiveState(entry)];
  return statusError(
    Code.FailedPrecondition,
    ErrorReason.STATE_CONFLICT,
    `conference ${entry.id} is ${state} and cannot be ${verb}`,
    { metadata: { conference_id: entry.id, state } },
  );
}
