import { create } from "@bufbuild/protobuf";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "../../common/logging.ts";
import { statusError } from "../../common/rpc/status.ts";
import { createValidator } from "../../common/rpc/validator.ts";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import {
  type AgentService,
  type HostedConference as HostedConferenceMessage,
  HostedConferenceSchema,
  type KeepaliveRequest,
  KeepaliveResponseSchema,
  ListHostedConferencesResponseSchema,
  type StartConferencesRequest,
  StartConferencesResponseSchema,
  type StartResult,
  StartResultSchema,
  type StopConferencesRequest,
  StopConferencesResponseSchema,
  StopResultSchema,
} from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { Driver } from "./drivers/driver.ts";
import {
  DRIVER_PARALLELISM,
  type HostedConference,
  type HostedConferences,
  type StartOutcome,
} from "./hosted.ts";
import type { Isolation } from "./isolation.ts";
import { mapBounded } from "./limiter.ts";
import { decodePageToken, encodePageToken } from "./page-token.ts";
import type { Registration } from "./registration.ts";

export interface AgentServiceOptions {
  readonly serverId: string;
  readonly driver: Driver;
  readonly hosted: HostedConferences;
  readonly registration: Pick<Registration, "incarnation" | "renew">;
  readonly isolation: Pick<Isolation, "mayServe" | "heard" | "observed" | "doubt">;
  readonly logger: Logger;
}

const MAX_BATCH = 1_000;
const MAX_WEIGHT = 100_000;
const MAX_PAGE_SIZE = 1_000;
const DEFAULT_PAGE_SIZE = 100;

/** How soon a caller may find the server healthy or registered again. */
const RETRY_AFTER_MS = 1_000;

/** The handlers of AgentService. */
export function createAgentService(options: AgentServiceOptions): ServiceImpl<typeof AgentService> {
  const { serverId, driver, hosted, registration, isolation, logger } = options;
  return {
    async keepalive(request, { signal }) {
      const { dispatcherId } = request;
      const check = createValidator();
      check.optionalId("dispatcher_id", dispatcherId);
      check.done();
      noteBelief(options, request);
      const health = await driver.healthy(signal);
      if (!health.healthy) {
        logger.warn({ dispatcherId, reason: health.reason }, "keepalive answered as unhealthy");
        throw statusError(
          Code.Unavailable,
          ErrorReason.SERVER_UNAVAILABLE,
          `the conference server is not healthy: ${health.reason}`,
          { retryAfterMs: RETRY_AFTER_MS },
        );
      }
      return create(KeepaliveResponseSchema, {
        serverId,
        instanceId: driver.instanceId,
        incarnation: registration.incarnation,
        conferenceCount: hosted.count,
        participantCount: driver.participantCount,
      });
    },

    async startConferences(request, { signal }) {
      validateStarts(request);
      requireIncarnation(request.incarnation, registration);
      if (!isolation.mayServe()) {
        throw statusError(
          Code.Unavailable,
          ErrorReason.SERVER_UNAVAILABLE,
          "the server was cut off and is ending its conferences",
          { retryAfterMs: RETRY_AFTER_MS },
        );
      }
      const results = await mapBounded(request.starts, DRIVER_PARALLELISM, async (start) => {
        signal.throwIfAborted();
        const { conferenceId, dispatchEpoch, weight, validUntil } = start;
        const request = {
          conferenceId,
          dispatchEpoch,
          weight,
          ...(validUntil ? { validUntilMs: timestampMs(validUntil) } : {}),
        };
        return toStartResult(conferenceId, await hosted.start(request));
      });
      return create(StartConferencesResponseSchema, { results });
    },

    async stopConferences(request, { signal }) {
      validateStops(request);
      const results = await mapBounded(request.stops, DRIVER_PARALLELISM, async (stop) => {
        signal.throwIfAborted();
        const { refusal } = await hosted.stop(stop.conferenceId, stop.dispatchEpoch);
        return create(StopResultSchema, {
          conferenceId: stop.conferenceId,
          ...(refusal ? { rejection: refusal } : {}),
        });
      });
      return create(StopConferencesResponseSchema, { results });
    },

    async listHostedConferences({ pageSize, pageToken }) {
      const check = createValidator();
      const size = check.integer("page_size", pageSize, {
        min: 0,
        max: MAX_PAGE_SIZE,
        fallback: DEFAULT_PAGE_SIZE,
      });
      const after = decodePageToken(pageToken);
      if (after === undefined) check.violation("page_token", "is not the next_page_token of a page before");
      check.done();
      const conferences = hosted.page(after ?? "", size + 1);
      const more = conferences.length > size;
      const page = conferences.slice(0, size);
      return create(ListHostedConferencesResponseSchema, {
        conferences: page.map((conference) => toMessage(conference, driver)),
        nextPageToken: more ? encodePageToken(page.at(-1)?.conferenceId ?? "") : "",
      });
    },
  };
}

/** What an observer believes of this server: that its dispatches stand, or that they are void. */
function noteBelief(
  { isolation, registration }: Pick<AgentServiceOptions, "isolation" | "registration">,
  { dispatcherId, incarnation, serverState, controlPlaneLost }: KeepaliveRequest,
) {
  const own = registration.incarnation;
  const isOwn = incarnation === 0n || own === 0n || incarnation === own;
  const observer = dispatcherId || "an observer";
  if (!isOwn && incarnation > own) {
    isolation.doubt(`${observer} knows of incarnation ${incarnation}, and this is ${own}`);
  } else if (isOwn && serverState === Server_State.DOWN) {
    isolation.doubt(`${observer} holds the server to be down`);
  } else if (dispatcherId !== "" && own !== 0n && incarnation === own) {
    isolation.observed(dispatcherId, controlPlaneLost);
  } else if (isOwn && !controlPlaneLost) isolation.heard();
}

function validateStarts({ incarnation, starts }: StartConferencesRequest) {
  const check = createValidator();
  check.epoch("incarnation", incarnation);
  check.size("starts", starts, { min: 1, max: MAX_BATCH });
  check.unique("starts", starts, ({ conferenceId }) => conferenceId);
  starts.forEach(({ conferenceId, dispatchEpoch, weight, validUntil }, index) => {
    check.id(`starts[${index}].conference_id`, conferenceId);
    check.epoch(`starts[${index}].dispatch_epoch`, dispatchEpoch);
    check.integer(`starts[${index}].weight`, weight, { min: 1, max: MAX_WEIGHT });
    check.timestamp(`starts[${index}].valid_until`, validUntil);
  });
  check.done();
}

function validateStops({ stops }: StopConferencesRequest) {
  const check = createValidator();
  check.size("stops", stops, { min: 1, max: MAX_BATCH });
  check.unique("stops", stops, ({ conferenceId }) => conferenceId);
  stops.forEach(({ conferenceId, dispatchEpoch }, index) => {
    check.id(`stops[${index}].conference_id`, conferenceId);
    check.epoch(`stops[${index}].dispatch_epoch`, dispatchEpoch);
  });
  check.done();
}

function requireIncarnation(asked: bigint, registration: AgentServiceOptions["registration"]) {
  const { incarnation } = registration;
  if (asked === incarnation) return;
  // The caller may know of a registration whose answer has not reached this agent.
  if (asked > incarnation) registration.renew();
  throw statusError(
    Code.FailedPrecondition,
    ErrorReason.INCARNATION_EXPIRED,
    incarnation === 0n
      ? "the server has not registered yet; read it again and repeat the call"
      : `the server is in incarnation ${incarnation}, not ${asked}; read it again`,
    {
      metadata: { incarnation: String(incarnation) },
      ...(asked > incarnation ? { retryAfterMs: RETRY_AFTER_MS } : {}),
    },
  );
}

function toStartResult(conferenceId: string, outcome: StartOutcome): StartResult {
  return create(StartResultSchema, {
    conferenceId,
    outcome:
      "conference" in outcome
        ? { case: "address", value: outcome.conference.address }
        : { case: "rejection", value: outcome.refusal },
  });
}

function toMessage(conference: HostedConference, driver: Driver): HostedConferenceMessage {
  return create(HostedConferenceSchema, {
    conferenceId: conference.conferenceId,
    dispatchEpoch: conference.dispatchEpoch,
    address: conference.address,
    participantCount: driver.participants(conference.conferenceId),
    startTime: timestampFromMs(conference.startTimeMs),
  });
}
