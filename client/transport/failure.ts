import type { DescMethod } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { ERROR_DOMAIN, reasonOf } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { ErrorInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import { writesInParts } from "./repeatable.ts";

/** What a failed call says of the replica it was sent to. */
export interface Failure {
  /** Whether others should be asked rather than this one. */
  readonly endpointAtFault: boolean;
  /** Whether the call was certainly not carried out. */
  readonly notCarriedOut: boolean;
}

/** With these, and no reason of ours, it was not a handler that spoke but the way there and back. */
const BROKEN_OFF: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Canceled, Code.Internal]);

/**
 * What grpc-js says of HTTP/2's REFUSED_STREAM, by which a server that shuts down promises not to have looked at a call;
 * it says so in no other way. Were the words others, such a call would not be sent again, and nothing worse.
 */
const STREAM_REFUSED = "Stream refused by server";

/**
 * Judges the error of a call that nobody gave up. A deadline that passed says nothing: the replica may be well and the
 * work long; whether it shows signs of life is looked at before.
 */
export function judgeFailure(method: DescMethod, error: ConnectError): Failure {
  const reason = reasonOf(error);
  if (reason === undefined) {
    const refused = error.code === Code.Unavailable && error.rawMessage === STREAM_REFUSED;
    return { endpointAtFault: BROKEN_OFF.has(error.code), notCarriedOut: refused };
  }
  if (reason === ErrorReason.STORE_UNAVAILABLE) {
    return { endpointAtFault: true, notCarriedOut: saysNoEffect(error) && !writesInParts(method) };
  }
  return { endpointAtFault: reason === ErrorReason.SHUTTING_DOWN, notCarriedOut: false };
}

/** A replica that has lost its store refuses calls before it does anything, and says so. */
function saysNoEffect(error: ConnectError): boolean {
  return error
    .findDetails(ErrorInfoSchema)
    .some(({ domain, metadata }) => domain === ERROR_DOMAIN && metadata.effect === "none");
}
