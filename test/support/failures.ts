import { type Code, ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../../common/rpc/status.ts";
import type { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";

/** What a call answered: its code and reason; code 0 when it succeeded. Other errors are thrown. */
export interface Answer {
  readonly code: Code | 0;
  readonly reason: ErrorReason | undefined;
}

export function answerOf(call: Promise<unknown>): Promise<Answer> {
  return call.then(
    () => ({ code: 0, reason: undefined }),
    (err: unknown) => {
      if (err instanceof ConnectError) return { code: err.code, reason: reasonOf(err) };
      throw err;
    },
  );
}
