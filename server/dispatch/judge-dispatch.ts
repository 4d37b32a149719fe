import type { Dispatch } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import type { NewDispatch } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { type ConferenceEntry, isHeld, isPlaced } from "../view/conference-entry.ts";
import type { View } from "../view/view.ts";

/** Why one item of a batch is refused. */
export interface Refusal {
  readonly reason: ErrorReason;
  readonly message: string;
}

export type Verdict =
  /** It may be written; it takes this many units. */
  | { readonly kind: "write"; readonly weight: number }
  /** It is in the table already. */
  | { readonly kind: "dispatch"; readonly dispatch: Dispatch }
  | { readonly kind: "refusal"; readonly refusal: Refusal };

/**
 * Judges one dispatch by the view: whether the claim behind it still stands, and whether the server is the one it was
 * started on, takes conferences, and has room.
 *
 * @param addedUnits what the batch at hand adds to the server before this one
 */
export function judgeDispatch(
  view: View,
  dispatcher: { readonly dispatcherId: string; readonly epoch: bigint },
  dispatch: NewDispatch,
  addedUnits: number,
): Verdict {
  const entry = view.conferences.get(dispatch.conferenceId);
  if (!entry) {
    return refuse(ErrorReason.CONFERENCE_NOT_FOUND, `there is no conference ${dispatch.conferenceId}`);
  }
  const standing = entry.conference.dispatch;
  if (isPlaced(entry) && standing && isSame(standing, dispatch)) {
    return { kind: "dispatch", dispatch: standing };
  }
  const claimed = judgeClaim(entry, dispatcher, dispatch.dispatchEpoch);
  if (claimed) return { kind: "refusal", refusal: claimed };
  const server = view.servers.get(dispatch.serverId)?.server;
  if (!server) return refuse(ErrorReason.SERVER_NOT_FOUND, `there is no server ${dispatch.serverId}`);
  const refusal = judgeServer(server, dispatch);
  if (refusal) return { kind: "refusal", refusal };
  const { weight } = entry.conference;
  const freeUnits = server.capacity - view.hostingOf(server.serverId).reservedUnits - addedUnits;
  if (weight > freeUnits) {
    return refuse(
      ErrorReason.CAPACITY_EXCEEDED,
      `server ${server.serverId} has ${Math.max(0, freeUnits)} of ${server.capacity} units free, and the conference needs ${weight}`,
    );
  }
  return { kind: "write", weight };
}

/** Whether the claim is this dispatcher's, under this dispatch epoch; undefined when it is. */
export function judgeClaim(
  entry: ConferenceEntry,
  { dispatcherId, epoch }: { readonly dispatcherId: string; readonly epoch: bigint },
  dispatchEpoch: bigint,
): Refusal | undefined {
  const { claim, status } = entry;
  const mine =
    isHeld(entry) &&
    claim?.dispatcherId === dispatcherId &&
    claim.dispatcherEpoch === epoch &&
    claim.dispatchEpoch === dispatchEpoch;
  if (mine) return undefined;
  return {
    reason: ErrorReason.CLAIM_LOST,
    message: `conference ${entry.id} is ${status}, not claimed by ${dispatcherId} under dispatch epoch ${dispatchEpoch}`,
  };
}

function judgeServer(server: Server, { serverId, incarnation }: NewDispatch): Refusal | undefined {
  if (server.incarnation !== incarnation) {
    return {
      reason: ErrorReason.INCARNATION_EXPIRED,
      message: `server ${serverId} is in incarnation ${server.incarnation}; what ran in ${incarnation} is gone`,
    };
  }
  if (server.cordoned || server.state !== Server_State.UP) {
    const state = server.cordoned ? "cordoned" : Server_State[server.state];
    return {
      reason: ErrorReason.SERVER_UNAVAILABLE,
      message: `server ${serverId} is ${state} and takes no conferences`,
    };
  }
  return undefined;
}

function isSame(standing: Dispatch, dispatch: NewDispatch): boolean {
  return (
    standing.epoch === dispatch.dispatchEpoch &&
    standing.serverId === dispatch.serverId &&
    standing.incarnation === dispatch.incarnation &&
    standing.address === dispatch.address
  );
}

function refuse(reason: ErrorReason, message: string): Verdict {
  return { kind: "refusal", refusal: { reason, message } };
}
