import { clone, create, equals } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { timestampMs } from "../../common/time.ts";
import {
  type Conference,
  Conference_State,
  ConferenceSchema,
} from "../../proto/gen/convoke/v1/conference_pb.js";
import {
  type BatchCreateConferencesRequest,
  type ConferenceService,
  BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy,
  type ListConferencesRequest,
  BatchCreateResult_Outcome as Outcome,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";

/** The schedule of a control plane, in memory: what importing needs of ConferenceService. */
export interface MemoryConferences {
  readonly conferences: ReadonlyMap<string, Conference>;
  readonly impl: Partial<ServiceImpl<typeof ConferenceService>>;
  /** How many conferences each batch had. */
  readonly batches: readonly number[];
  /** The next calls fail with these, one each. */
  failNext(...errors: readonly Error[]): void;
  /** As if the conference had moved on by itself. */
  setState(conferenceId: string, state: Conference_State): void;
}

const MAX_DURATION_MS = 7 * 86_400_000;

export function createMemoryConferences(): MemoryConferences {
  const conferences = new Map<string, Conference>();
  const batches: number[] = [];
  const failures: Error[] = [];
  const call =
    <Q, A>(handler: (request: Q) => A) =>
    async (request: Q): Promise<A> => {
      const failure = failures.shift();
      if (failure) throw failure;
      return handler(request);
    };
  const require = (conferenceId: string): Conference => {
    const found = conferences.get(conferenceId);
    if (found) return found;
    throw statusError(Code.NotFound, ErrorReason.CONFERENCE_NOT_FOUND, `no conference ${conferenceId}`);
  };
  const upsert = (given: Conference): Outcome => {
    const standing = conferences.get(given.conferenceId);
    const scheduled = clone(ConferenceSchema, given);
    scheduled.state = Conference_State.SCHEDULED;
    if (standing && equals(ConferenceSchema, standing, scheduled)) return Outcome.UNCHANGED;
    conferences.set(given.conferenceId, scheduled);
    return standing ? Outcome.UPDATED : Outcome.CREATED;
  };
  return {
    conferences,
    batches,
    failNext: (...errors) => void failures.push(...errors),
    setState(conferenceId, state) {
      require(conferenceId).state = state;
    },
    impl: {
      batchCreateConferences: call(({ requests, conflictPolicy }: BatchCreateConferencesRequest) => {
        if (conflictPolicy !== ConflictPolicy.UPDATE) throw new ConnectError("not built", Code.Unimplemented);
        const given = requests.map(({ conference }) => conference ?? create(ConferenceSchema));
        if (new Set(given.map(({ conferenceId }) => conferenceId)).size < given.length)
          throw new ConnectError("an ID twice", Code.InvalidArgument);
        const violations = given.flatMap(({ startTime, endTime }, index) =>
          startTime && endTime && timestampMs(endTime) - timestampMs(startTime) <= MAX_DURATION_MS
            ? []
            : [
                {
                  field: `requests[${index}].conference.end_time`,
                  description: "must be within 7 days of start_time",
                },
              ],
        );
        if (violations.length > 0)
          throw statusError(Code.InvalidArgument, ErrorReason.INVALID_FIELD, "invalid", { violations });
        batches.push(given.length);
        return {
          results: given.map((conference) => ({
            conferenceId: conference.conferenceId,
            outcome: upsert(conference),
          })),
        };
      }),
      listConferences: call((request: ListConferencesRequest) => {
        const pageSize = request.pageSize || 100;
        const fromMs = request.startTimeFrom ? timestampMs(request.startTimeFrom) : Number.NEGATIVE_INFINITY;
        const untilMs = request.startTimeUntil
          ? timestampMs(request.startTimeUntil)
          : Number.POSITIVE_INFINITY;
        const matching = [...conferences.values()]
          .filter(({ conferenceId }) => conferenceId > request.pageToken)
          .filter(({ seriesId }) => request.seriesId === "" || seriesId === request.seriesId)
          .filter(({ state }) => request.states.length === 0 || request.states.includes(state))
          .filter(
            ({ startTime }) =>
              startTime && timestampMs(startTime) >= fromMs && timestampMs(startTime) < untilMs,
          )
          .sort((a, b) => (a.conferenceId < b.conferenceId ? -1 : 1));
        const page = matching.slice(0, pageSize);
        return {
          conferences: page,
          nextPageToken: matching.length > pageSize ? (page.at(-1)?.conferenceId ?? "") : "",
        };
      }),
      getConference: call(({ conferenceId }: { conferenceId: string }) => ({
        conference: require(conferenceId),
      })),
      cancelConference: call(({ conferenceId }: { conferenceId: string }) => {
        const conference = require(conferenceId);
        if (conference.state === Conference_State.ENDED)
          throw statusError(Code.FailedPrecondition, ErrorReason.STATE_CONFLICT, "it has ended");
        conference.state = Conference_State.CANCELLED;
        return { conference };
      }),
    },
  };
}
