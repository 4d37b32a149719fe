import { clone, create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "../../common/time.ts";
import {
  type ConferenceRecord,
  ConferenceRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import {
  Conference_ClaimSchema,
  Conference_FailureSchema,
  Conference_State,
  ConferenceSchema,
} from "../../proto/gen/convoke/v1/conference_pb.js";
import { Dispatch_MoveReason, DispatchSchema } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import {
  type NewDispatch,
  type Task,
  type TaskRelease,
  TaskRelease_Cause,
  TaskSchema,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { type ConferenceEntry, hasMoveClaim, isPlaced } from "../view/conference-entry.ts";

/** Who writes, and when. */
export interface Writer {
  readonly nowMs: number;
  /** Unique to this write. */
  readonly attemptId: string;
}

/**
 * After a release for want of room: soon at first, since something may end any moment, and doubling with each claim up to
 * the maximum, so that what finds no room for long costs little and is still placed seconds after room appears.
 */
const NO_CAPACITY_RETRY_MS = 1_000;
const NO_CAPACITY_RETRY_MAX_MS = 15_000;
/** The first delay after a failed start; it doubles with each, up to the longest. */
const START_FAILED_RETRY_MS = 1_000;
/** However many attempts are allowed, a conference that waits should not be forgotten. */
const LONGEST_RETRY_MS = 60_000;

/** The record of an entry, to be changed and written. */
export function nextRecord(entry: ConferenceEntry, { nowMs, attemptId }: Writer) {
  const conference = clone(ConferenceSchema, entry.conference);
  conference.updateTime = timestampFromMs(nowMs);
  const { requestId, retryTimeMs, wantsRoom } = entry.record;
  return {
    conference,
    record: create(ConferenceRecordSchema, { conference, requestId, retryTimeMs, attemptId, wantsRoom }),
  };
}

export function encodeRecord(record: ConferenceRecord): Uint8Array {
  return toBinary(ConferenceRecordSchema, record);
}

/**
 * A claim. Its dispatch epoch is the revision that the write will have. One that is placed stays so, and is claimed to be
 * moved: its dispatch stands until the next one takes its place.
 */
export function claimRecord(
  entry: ConferenceEntry,
  claimer: { dispatcherId: string; epoch: bigint; round: bigint; moveReason: Dispatch_MoveReason },
  writer: Writer,
): ConferenceRecord {
  const { record, conference } = nextRecord(entry, writer);
  const isVoid = conference.state === Conference_State.CLAIMED || hasMoveClaim(entry);
  if (conference.claim && (isPlaced(entry) ? !hasMoveClaim(entry) : isVoid)) {
    conference.supersededClaim = conference.claim;
  }
  if (!isPlaced(entry)) conference.state = Conference_State.CLAIMED;
  conference.claim = create(Conference_ClaimSchema, {
    dispatcherId: claimer.dispatcherId,
    dispatcherEpoch: claimer.epoch,
    dispatchEpoch: 0n,
    round: claimer.round,
    claimTime: timestampFromMs(writer.nowMs),
    moveReason: claimer.moveReason,
  });
  conference.attempt += 1;
  record.retryTimeMs = 0n;
  record.wantsRoom = false;
  return record;
}

/** A dispatch of a claimed conference. */
export function dispatchRecord(
  entry: ConferenceEntry,
  dispatch: NewDispatch,
  graceMs: number,
  moveReason: Dispatch_MoveReason,
  writer: Writer,
): ConferenceRecord {
  const { record, conference } = nextRecord(entry, writer);
  const previous = conference.dispatch;
  conference.state = Conference_State.ACTIVE;
  conference.failedAttempts = 0;
  conference.dispatch = create(DispatchSchema, {
    conferenceId: entry.id,
    address: dispatch.address,
    serverId: dispatch.serverId,
    incarnation: dispatch.incarnation,
    epoch: dispatch.dispatchEpoch,
    validUntil: timestampFromMs(entry.endMs + graceMs),
    dispatcherId: entry.claim?.dispatcherId ?? "",
    commitTime: timestampFromMs(writer.nowMs),
    previousServerId: previous?.serverId ?? "",
    moveReason,
  });
  return record;
}

/**
 * A claim given back. Too many failed starts make the conference FAILED, unless it is placed and was to be moved: then it
 * stays where it is.
 */
export function releaseRecord(
  entry: ConferenceEntry,
  release: TaskRelease,
  maxFailedAttempts: number,
  writer: Writer,
): ConferenceRecord {
  const { record, conference } = nextRecord(entry, writer);
  if (isPlaced(entry)) {
    if (conference.supersededClaim) conference.claim = conference.supersededClaim;
    delete conference.supersededClaim;
  } else {
    conference.state = Conference_State.SCHEDULED;
    delete conference.claim;
  }
  record.wantsRoom = release.cause === TaskRelease_Cause.NO_CAPACITY;
  if (release.cause === TaskRelease_Cause.NO_CAPACITY) {
    const doublings = Math.min(conference.attempt, 5) - 1;
    const delayMs = Math.min(NO_CAPACITY_RETRY_MS * 2 ** Math.max(0, doublings), NO_CAPACITY_RETRY_MAX_MS);
    record.retryTimeMs = BigInt(writer.nowMs + delayMs);
  } else if (release.cause === TaskRelease_Cause.START_FAILED) {
    conference.failedAttempts += 1;
    const delayMs = Math.min(START_FAILED_RETRY_MS * 2 ** (conference.failedAttempts - 1), LONGEST_RETRY_MS);
    record.retryTimeMs = BigInt(writer.nowMs + delayMs);
    if (conference.failedAttempts >= maxFailedAttempts && !isPlaced(entry))
      conference.state = Conference_State.FAILED;
  }
  if (release.cause !== TaskRelease_Cause.SHUTTING_DOWN) {
    conference.failure = create(Conference_FailureSchema, {
      message: release.message,
      failureTime: timestampFromMs(writer.nowMs),
    });
  }
  return record;
}

/** A claimed conference as its dispatcher gets it. */
export function toTask(entry: ConferenceEntry, graceMs: number): Task {
  const { conference, claim } = entry;
  return create(TaskSchema, {
    conferenceId: entry.id,
    ...(conference.startTime ? { startTime: conference.startTime } : {}),
    ...(conference.endTime ? { endTime: conference.endTime } : {}),
    weight: conference.weight,
    region: conference.region,
    attempt: conference.attempt,
    dispatchEpoch: claim?.dispatchEpoch ?? 0n,
    validUntil: timestampFromMs(entry.endMs + graceMs),
    requiredLabels: conference.requiredLabels,
    preferredLabels: conference.preferredLabels,
    avoidedLabels: conference.avoidedLabels,
    moveReason: claim?.moveReason ?? Dispatch_MoveReason.UNSPECIFIED,
    previousServerId: claim?.moveReason ? (conference.dispatch?.serverId ?? "") : "",
  });
}
