import { equals } from "@bufbuild/protobuf";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { type Dispatch, DispatchSchema } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { type ConferenceEntry, isPlaced } from "./conference-entry.ts";

/** A change of the dispatch table. */
export interface DispatchChange {
  readonly type: EventType;
  readonly dispatch: Dispatch;
  readonly cause: DispatchEvent_Cause;
}

/** What a new record of a conference changes in the dispatch table. */
export function changeByWrite(
  before: ConferenceEntry | undefined,
  after: ConferenceEntry,
): DispatchChange | undefined {
  const { dispatch, state } = after.conference;
  const standing = before && isPlaced(before) ? before.conference.dispatch : undefined;
  if (isPlaced(after) && dispatch) {
    // A claim to move it changes nothing about where it is.
    const isClaimed = before?.claim?.dispatchEpoch !== after.claim?.dispatchEpoch;
    if (isClaimed && standing && equals(DispatchSchema, standing, dispatch)) return undefined;
    const placed = dispatch.moveReason ? DispatchEvent_Cause.MOVED : DispatchEvent_Cause.PLACED;
    const cause = standing?.epoch === dispatch.epoch ? DispatchEvent_Cause.UPDATED : placed;
    return { type: EventType.PUT, dispatch, cause };
  }
  if (!before || !standing) return undefined;
  const isCancelled = state === Conference_State.CANCELLED;
  return rowGone(before, isCancelled ? DispatchEvent_Cause.CANCELLED : DispatchEvent_Cause.ENDED);
}

/** What another state of its server changes, when a conference was placed or is, but not both. */
export function changeByServer(entry: ConferenceEntry, wasPlaced: boolean): DispatchChange | undefined {
  const { dispatch } = entry.conference;
  if (!dispatch || wasPlaced === isPlaced(entry)) return undefined;
  if (wasPlaced) return rowGone(entry, DispatchEvent_Cause.SERVER_LOST);
  return { type: EventType.PUT, dispatch, cause: DispatchEvent_Cause.RETURNED };
}

export function rowGone(
  { conference: { dispatch } }: ConferenceEntry,
  cause: DispatchEvent_Cause,
): DispatchChange | undefined {
  return dispatch && { type: EventType.DELETE, dispatch, cause };
}
