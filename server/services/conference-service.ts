import type { ServiceImpl } from "@connectrpc/connect";
import { Code } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { createValidator, type Validator } from "../../common/rpc/validator.ts";
import { timestampMs } from "../../common/time.ts";
import { type Conference, Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import {
  type ConferenceService,
  BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy,
  type CreateConferenceRequest,
  DispatchEvent_Cause,
  type ListConferencesRequest,
  BatchCreateResult_Outcome as Outcome,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatch } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { type ScheduledField, scheduledConference, UPDATABLE_FIELDS } from "../dispatch/schedule.ts";
import {
  cancelConference,
  createConferences,
  endConference,
  requeueConference,
  reschedule,
  stateConflict,
} from "../operations/conferences.ts";
import type { OperationContext } from "../operations/context.ts";
import { requireConference, updateConference } from "../operations/update-conference.ts";
import { LIMITS } from "../settings.ts";
import { type ConferenceEntry, effectiveState, isPlaced, toConference } from "../view/conference-entry.ts";
import { checkConference, checkSchedule } from "./check-conference.ts";
import { readPage, takePage } from "./pages.ts";
import { checkRevision, readId } from "./requests.ts";
import { withStoreStatus } from "./store-status.ts";
import { serveWatch } from "./watches.ts";

export function createConferenceService(context: OperationContext): ServiceImpl<typeof ConferenceService> {
  const { view, clock } = context;

  /** The valid dispatch of a conference: its status says that the incarnation lives, the clock that it is not over. */
  const validDispatch = (entry: ConferenceEntry): Dispatch | undefined => {
    const { dispatch } = entry.conference;
    if (!isPlaced(entry) || !dispatch?.validUntil) return undefined;
    return timestampMs(dispatch.validUntil) > clock.wallMs() ? dispatch : undefined;
  };

  return withStoreStatus({
    async createConference(request, { signal }) {
      const check = createValidator();
      checkCreation(check, "", request);
      check.done();
      const creation = toCreation(request);
      const id = creation.scheduled.conferenceId;
      const [result] = await createConferences(context, [creation], ConflictPolicy.REJECT, signal);
      if (result?.outcome !== Outcome.CREATED) {
        throw statusError(
          Code.AlreadyExists,
          ErrorReason.CONFERENCE_EXISTS,
          `conference ${id} exists and came from another request; choose another ID or update it`,
          { metadata: { conference_id: id } },
        );
      }
      return { conference: toConference(requireConference(context, id)) };
    },

    async batchCreateConferences(request, { signal }) {
      const check = createValidator();
      check.size("requests", request.requests, { min: 1, max: LIMITS.maxBatch });
      check.integer("conflict_policy", request.conflictPolicy, { min: 0, max: 2 });
      for (const [index, item] of request.requests.entries())
        checkCreation(check, `requests[${index}].`, item);
      check.done();
      const creations = request.requests.map(toCreation);
      check.unique("requests", creations, ({ scheduled }) => scheduled.conferenceId);
      check.done();
      const results = await createConferences(context, creations, request.conflictPolicy, signal);
      return {
        results: results.map(({ outcome, refusal }, index) => ({
          conferenceId: creations[index]?.scheduled.conferenceId ?? "",
          outcome,
          ...(refusal ? { rejection: refusal } : {}),
        })),
      };
    },

    async getConference(request) {
      return {
        conference: toConference(requireConference(context, readId("conference_id", request.conferenceId))),
      };
    },

    async listConferences(request) {
      const check = createValidator();
      const page = readPage(check, request);
      const accept = readFilter(check, request);
      check.done();
      const { items, nextPageToken } = takePage(view.conferences, page, accept);
      return { conferences: items.map(toConference), nextPageToken, revision: view.revision };
    },

    async updateConference(request, { signal }) {
      const check = createValidator();
      const given = request.conference;
      const fields = readFields(check, request.updateMask?.paths ?? []);
      if (!given) check.violation("conference", "is required");
      else {
        check.id("conference.conference_id", given.conferenceId);
        checkConference(check, "conference.", given);
      }
      check.done();
      if (!given) return {};
      const entry = await updateConference(
        context,
        given.conferenceId,
        (standing, writer) => {
          requireEtag(standing, given.etag);
          if (standing.status === "over") throw stateConflict(standing, "updated");
          const next = reschedule(context, standing, given, fields, writer);
          const result = createValidator();
          if (next.record.conference) checkSchedule(result, "conference.", next.record.conference);
          result.done();
          return next;
        },
        signal,
      );
      return { conference: toConference(entry) };
    },

    async cancelConference(request, { signal }) {
      return {
        conference: toConference(
          await cancelConference(context, readId("conference_id", request.conferenceId), signal),
        ),
      };
    },

    async endConference(request, { signal }) {
      return {
        conference: toConference(
          await endConference(context, readId("conference_id", request.conferenceId), signal),
        ),
      };
    },

    async requeueConference(request, { signal }) {
      return {
        conference: toConference(
          await requeueConference(context, readId("conference_id", request.conferenceId), signal),
        ),
      };
    },

    async getDispatch(request) {
      const entry = requireConference(context, readId("conference_id", request.conferenceId));
      const dispatch = validDispatch(entry);
      if (dispatch) return { dispatch };
      const state = Conference_State[effectiveState(entry)];
      throw statusError(
        Code.NotFound,
        ErrorReason.DISPATCH_NOT_FOUND,
        `conference ${entry.id} is ${state} and has no valid dispatch now`,
        { metadata: { conference_id: entry.id, state } },
      );
    },

    async listDispatches(request) {
      const check = createValidator();
      const page = readPage(check, request);
      const serverId = check.optionalId("server_id", request.serverId);
      check.done();
      const { items, nextPageToken } = takePage(view.conferences, page, (entry) => {
        const dispatch = validDispatch(entry);
        return dispatch !== undefined && (serverId === "" || dispatch.serverId === serverId);
      });
      const dispatches = items
        .map(({ conference }) => conference.dispatch)
        .filter((dispatch) => dispatch !== undefined);
      return { dispatches, nextPageToken, revision: view.revision };
    },

    async *watchDispatches(request, { signal }) {
      const check = createValidator();
      checkRevision(check, request.revision);
      check.done();
      const snapshot = () => ({
        revision: view.revision,
        events: [...view.conferences.values()]
          .map(validDispatch)
          .filter((dispatch) => dispatch !== undefined)
          .map((dispatch) => ({ type: EventType.PUT, dispatch, cause: DispatchEvent_Cause.EXISTING })),
      });
      for await (const { revision, events } of serveWatch(
        context,
        view.dispatchLog,
        request.revision,
        snapshot,
        signal,
      )) {
        yield { revision, events: [...events] };
      }
    },
  });
}

function checkCreation(check: Validator, prefix: string, { conference, requestId }: CreateConferenceRequest) {
  check.text(`${prefix}request_id`, requestId, 128);
  if (!conference) {
    check.violation(`${prefix}conference`, "is required");
    return;
  }
  check.optionalId(`${prefix}conference.conference_id`, conference.conferenceId);
  checkConference(check, `${prefix}conference.`, conference);
  checkSchedule(check, `${prefix}conference.`, conference);
}

function toCreation({ conference, requestId }: CreateConferenceRequest) {
  // Checked before: there is a conference.
  return { scheduled: scheduledConference(conference as Conference, requestId), requestId };
}

function readFilter(check: Validator, request: ListConferencesRequest): (entry: ConferenceEntry) => boolean {
  for (const [index, state] of request.states.entries()) {
    check.integer(`states[${index}]`, state, { min: 1, max: 6 });
  }
  check.text("series_id", request.seriesId, 1024);
  const { startTimeFrom, startTimeUntil, seriesId } = request;
  const fromMs = startTimeFrom ? check.timestamp("start_time_from", startTimeFrom) : Number.NEGATIVE_INFINITY;
  const untilMs = startTimeUntil
    ? check.timestamp("start_time_until", startTimeUntil)
    : Number.POSITIVE_INFINITY;
  const states = new Set(request.states);
  return (entry) =>
    entry.startMs >= fromMs &&
    entry.startMs < untilMs &&
    (seriesId === "" || entry.conference.seriesId === seriesId) &&
    (states.size === 0 || states.has(effectiveState(entry)));
}

function readFields(check: Validator, paths: readonly string[]): ScheduledField[] {
  if (paths.length === 0) return [...UPDATABLE_FIELDS.values()];
  return paths.flatMap((path, index) => {
    const field = UPDATABLE_FIELDS.get(path);
    if (field) return [field];
    check.violation(
      `update_mask.paths[${index}]`,
      `names no field that can be updated: ${JSON.stringify(path)}`,
    );
    return [];
  });
}

function requireEtag(entry: ConferenceEntry, etag: string) {
  if (etag === "" || etag === entry.modRevision.toString(36)) return;
  throw statusError(
    Code.Aborted,
    ErrorReason.ETAG_MISMATCH,
    `conference ${entry.id} has changed since it was read; read it again and repeat the update`,
    { metadata: { conference_id: entry.id } },
  );
}
