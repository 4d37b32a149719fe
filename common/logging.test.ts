import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorReason } from "../proto/gen/convoke/v1/error_reason_pb.js";
import { describeError } from "./logging.ts";
import { statusError } from "./rpc/status.ts";

describe("an error in the log", () => {
  it("is code, reason and message when a call failed", () => {
    const error = statusError(
      Code.OutOfRange,
      ErrorReason.REVISION_COMPACTED,
      "revision 3 is no longer kept",
    );
    expect(describeError(error)).toEqual({
      code: "OutOfRange",
      reason: "REVISION_COMPACTED",
      message: "revision 3 is no longer kept",
    });
    expect(describeError(new ConnectError("connect ECONNREFUSED", Code.Unavailable))).toEqual({
      code: "Unavailable",
      message: "connect ECONNREFUSED",
    });
  });

  it("comes with its stack when it is one of ours", () => {
    expect(describeError(new TypeError("a bug"))).toMatchObject({
      stack: expect.stringContaining("logging.test.ts"),
    });
  });
});
