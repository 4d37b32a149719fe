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
 * Judges the error of a call that nobody gave up. A deadline that passed says nothing: the replica may be well and the
 * work long; whether it shows signs of life is looked at before.
 */
export function judgeFailure(method: DescMethod, error: ConnectError): Failure {
  const reason = reasonOf(error);
  if (reason === undefined) return { endpointAtFault: BROKEN_OFF.has(error.code), notCarriedOut: false };
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
