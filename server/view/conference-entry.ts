import { clone, create, fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "../../common/time.ts";
import {
  type ConferenceRecord,
  ConferenceRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import {
  type Conference,
  type Conference_Claim,
  Conference_State,
  ConferenceSchema,
} from "../../proto/gen/convoke/v1/conference_pb.js";
import type { KeyValue } from "../store/store.ts";

/**
 * Where a conference really stands, once void claims and dispatches are taken into account:
 *
 * | status    | the record says                      | and                                              |
 * | --------- | ------------------------------------ | ------------------------------------------------ |
 * | `waiting` | SCHEDULED                            |                                                  |
 * | `waiting` | CLAIMED                              | the claim's epoch is over                        |
 * | `waiting` | ACTIVE                               | the incarnation of the server is over, or DOWN   |
 * | `claimed` | CLAIMED                              | the claim's epoch lives                          |
 * | `claimed` | ACTIVE, with a claim to move it      | the server is lost, the claim's epoch lives      |
 * | `active`  | ACTIVE                               | the incarnation lives                            |
 * | `moving`  | ACTIVE, with a claim to move it      | the incarnation lives, and the claim's epoch     |
 * | `over`    | ENDED, CANCELLED, FAILED             |                                                  |
 */
export type Status = "waiting" | "claimed" | "active" | "moving" | "over";

/** Whether it has a valid dispatch. */
export function isPlaced({ status }: Pick<ConferenceEntry, "status">): boolean {
  return status === "active" || status === "moving";
}

/** Whether a dispatcher holds it by a valid claim, to place or to move it. */
export function isHeld({ status }: Pick<ConferenceEntry, "status">): boolean {
  return status === "claimed" || status === "moving";
}

/** Whether it waits for another server, because the one that hosted it is lost. */
export function isLost({ status, conference }: Pick<ConferenceEntry, "status" | "conference">): boolean {
  return status === "waiting" && conference.dispatch !== undefined;
}

/** Whether the record's claim is one to move it, made after its dispatch. */
export function hasMoveClaim({ claim, conference }: Pick<ConferenceEntry, "claim" | "conference">): boolean {
  const { state, dispatch } = conference;
  return (
    state === Conference_State.ACTIVE &&
    claim !== undefined &&
    dispatch !== undefined &&
    claim.dispatchEpoch > dispatch.epoch
  );
}

/** A conference in the view. The record is never changed; the status follows the registry and the servers. */
export interface ConferenceEntry {
  readonly id: string;
  readonly record: ConferenceRecord;
  readonly conference: Conference;
  readonly claim: Conference_Claim | undefined;
  readonly modRevision: bigint;
  readonly startMs: number;
  readonly endMs: number;
  status: Status;
  /** Since when it has been `waiting`, on the monotonic clock of this replica. */
  waitingSinceMs: number;
  /** The dispatcher on whose account of the current round it is. */
  countedFor: string | undefined;
}

/** Reads an entry from the store; its status is not known yet. */
export function readConferenceEntry(id: string, kv: KeyValue): ConferenceEntry {
  const record = fromBinary(ConferenceRecordSchema, kv.value);
  const conference = record.conference ?? create(ConferenceSchema, { conferenceId: id });
  const claim = conference.claim;
  // The revision of the write that made the claim is the dispatch epoch, and cannot be known before it is written.
  if (claim && claim.dispatchEpoch === 0n) claim.dispatchEpoch = kv.modRevision;
  if (conference.dispatch) conference.dispatch.weight = conference.weight;
  return {
    id,
    record,
    conference,
    claim,
    modRevision: kv.modRevision,
    startMs: conference.startTime ? timestampMs(conference.startTime) : 0,
    endMs: conference.endTime ? timestampMs(conference.endTime) : 0,
    status: "over",
    waitingSinceMs: 0,
    countedFor: undefined,
  };
}

/** By start, then ID. */
export function byStart(a: ConferenceEntry, b: ConferenceEntry): number {
  return a.startMs - b.startMs || (a.id < b.id ? -1 : 1);
}

const STATE_OF_STATUS = {
  waiting: Conference_State.SCHEDULED,
  claimed: Conference_State.CLAIMED,
  active: Conference_State.ACTIVE,
  moving: Conference_State.ACTIVE,
} as const;

/** The state that callers see. */
export function effectiveState(entry: ConferenceEntry): Conference_State {
  return entry.status === "over" ? entry.conference.state : STATE_OF_STATUS[entry.status];
}

/** The conference as callers see it. */
export function toConference(entry: ConferenceEntry): Conference {
  const conference = clone(ConferenceSchema, entry.conference);
  conference.state = effectiveState(entry);
  conference.etag = entry.modRevision.toString(36);
  if (entry.status === "waiting") delete conference.claim;
  if (!isPlaced(entry)) delete conference.dispatch;
  // A claim to move it whose dispatcher is gone.
  if (entry.status === "active" && hasMoveClaim(entry)) {
    if (conference.supersededClaim) conference.claim = conference.supersededClaim;
    delete conference.supersededClaim;
  }
  return conference;
}
