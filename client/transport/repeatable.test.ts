import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { statusError } from "../../common/rpc/status.ts";
import {
  BatchCreateConferencesRequestSchema,
  ConferenceService,
  BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy,
  CreateConferenceRequestSchema,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { judgeFailure } from "./failure.ts";
import { isRepeatable } from "./repeatable.ts";

test("what may be carried out twice is repeated, and nothing else", () => {
  const all = [DispatcherService, ConferenceService, ServerService].flatMap(({ methods }) => methods);
  const refused = all.filter((method) => !isRepeatable(method, create(method.input))).map(({ name }) => name);
  expect(refused.toSorted()).toEqual([
    "CreateConference",
    "RegisterDispatcher",
    "ReportObservations",
    "RequeueConference",
    "UpdateConference",
  ]);
});

test("creations are repeated when the replica can tell the second from another's", () => {
  const { createConference, batchCreateConferences } = ConferenceService.method;
  const one = (requestId: string) => create(CreateConferenceRequestSchema, { requestId });
  expect(isRepeatable(createConference, one("booking-1"))).toBe(true);
  expect(isRepeatable(createConference, one(""))).toBe(false);
  const batch = (requestIds: string[], conflictPolicy = ConflictPolicy.REJECT) =>
    create(BatchCreateConferencesRequestSchema, { requests: requestIds.map(one), conflictPolicy });
  expect(isRepeatable(batchCreateConferences, batch(["a", "b"]))).toBe(true);
  expect(isRepeatable(batchCreateConferences, batch(["a", ""]))).toBe(false);
  expect(isRepeatable(batchCreateConferences, batch(["a", ""], ConflictPolicy.UPDATE))).toBe(true);
});

const { updateConference, batchCreateConferences } = ConferenceService.method;
const ours = (code: Code, reason: ErrorReason, metadata = {}) =>
  statusError(code, reason, "text", { metadata });

test.each([
  ["a broken connection", new ConnectError("reset", Code.Unavailable), true, false],
  ["a call cut off by a server that stops", new ConnectError("cut", Code.Canceled), true, false],
  [
    "a call refused by a server that stops",
    new ConnectError("Stream refused by server", Code.Unavailable),
    true,
    true,
  ],
  ["a deadline", new ConnectError("late", Code.DeadlineExceeded), false, false],
  ["a replica that stops", ours(Code.Unavailable, ErrorReason.SHUTTING_DOWN), true, false],
  ["a store that did not answer", ours(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE), true, false],
  ["a lost store", ours(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, { effect: "none" }), true, true],
  ["a refusal", ours(Code.FailedPrecondition, ErrorReason.EPOCH_EXPIRED), false, false],
  ["a bug", ours(Code.Internal, ErrorReason.INTERNAL), false, false],
])("%s is judged", (_, error, endpointAtFault, notCarriedOut) => {
  expect(judgeFailure(updateConference, error)).toEqual({ endpointAtFault, notCarriedOut });
});

test("a batch that is written in parts may have been written in part", () => {
  const lost = ours(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, { effect: "none" });
  expect(judgeFailure(batchCreateConferences, lost).notCarriedOut).toBe(false);
});
