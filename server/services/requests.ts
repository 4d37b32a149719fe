import { Code } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { createValidator, type Validator } from "../../common/rpc/validator.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";

/** Checks the one ID that a request consists of. */
export function readId(field: string, id: string): string {
  const check = createValidator();
  check.id(field, id);
  check.done();
  return id;
}

/** Checks a revision to resume from: 0 or one that was handed out. */
export function checkRevision(check: Validator, revision: bigint): void {
  if (revision < 0n) check.violation("revision", "must be 0 or a revision from an earlier message");
}

/** What a call answers that the contract has and this version does not serve. */
export function notImplemented(method: string) {
  return statusError(
    Code.Unimplemented,
    ErrorReason.NOT_IMPLEMENTED,
    `${method} is part of the contract and not served by this version`,
  );
}
