/**
 * The typed client of Convoke.
 *
 * ```ts
 * import { createConvokeClient, timestampFromMs } from "convoke";
 *
 * using client = createConvokeClient({ endpoint: "127.0.0.1:7400" });
 * const { conference } = await client.conferences.createConference({
 *   requestId: "booking-4711",
 *   conference: { startTime: timestampFromMs(Date.now()), endTime: timestampFromMs(Date.now() + 3_600_000) },
 * });
 * ```
 *
 * Requests are plain objects of the fields that are set. The messages, enums and services are exported by name; their
 * request and response types, and their schemas for `@bufbuild/protobuf`, come from `convoke/v1/<proto file>`, such as
 * `convoke/v1/conference_service`.
 */
export { Code, ConnectError } from "@connectrpc/connect";
export { reasonName, reasonOf } from "../common/rpc/status.ts";
export {
  type Duration,
  durationFromMs,
  durationMs,
  type Timestamp,
  timestampFromMs,
  timestampMs,
} from "../common/time.ts";
export {
  AgentService,
  type ConferenceStart,
  type ConferenceStop,
  type HostedConference,
  type StartResult,
  type StopResult,
} from "../proto/gen/convoke/v1/agent_service_pb.js";
export {
  type Conference,
  type Conference_Claim,
  type Conference_Failure,
  Conference_State,
  ConferenceSchema,
} from "../proto/gen/convoke/v1/conference_pb.js";
export {
  BatchCreateConferencesRequest_ConflictPolicy,
  type BatchCreateResult,
  BatchCreateResult_Outcome,
  ConferenceService,
  type DispatchEvent,
  DispatchEvent_Cause,
  DispatchEventSchema,
} from "../proto/gen/convoke/v1/conference_service_pb.js";
export type { Brake, Detection } from "../proto/gen/convoke/v1/detection_pb.js";
export { type Dispatch, Dispatch_MoveReason, DispatchSchema } from "../proto/gen/convoke/v1/dispatch_pb.js";
export { type Dispatcher, DispatcherSchema } from "../proto/gen/convoke/v1/dispatcher_pb.js";
export {
  type CommitResult,
  type DispatcherEvent,
  DispatcherService,
  type NewDispatch,
  type Observation,
  Observation_Verdict,
  type Rejection,
  type ReleaseResult,
  type Task,
  type TaskRelease,
  TaskRelease_Cause,
} from "../proto/gen/convoke/v1/dispatcher_service_pb.js";
export { ErrorReason } from "../proto/gen/convoke/v1/error_reason_pb.js";
export {
  type Server,
  type Server_Drain,
  type Server_Health,
  Server_Health_Cause,
  Server_State,
  ServerSchema,
} from "../proto/gen/convoke/v1/server_pb.js";
export { type ServerEvent, ServerService } from "../proto/gen/convoke/v1/server_service_pb.js";
export { EventType } from "../proto/gen/convoke/v1/watch_pb.js";
export { type Page, paginate } from "./paginate.ts";
export {
  type AgentClient,
  type ConvokeClient,
  type ConvokeClientOptions,
  createAgentClient,
  createConvokeClient,
  DEFAULT_ENDPOINT,
} from "./transport/client.ts";
export type { Endpoints } from "./transport/endpoints.ts";
export { observeStaleAnswers } from "./transport/stale-answers.ts";
export {
  type WatchOptions,
  type WatchUpdate,
  watchDispatchers,
  watchDispatches,
  watchServers,
} from "./watch.ts";
export { createWhereabouts, type Follower, type Whereabouts } from "./whereabouts.ts";
