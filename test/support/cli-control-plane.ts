import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, type Transport } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { durationMs, timestampFromMs } from "../../common/time.ts";
import { Conference_State, ConferenceSchema } from "../../proto/gen/convoke/v1/conference_pb.js";
import {
  ConferenceService,
  type CreateConferenceRequest,
  type ListConferencesRequest,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import type { BrakeSchema, DetectionSchema } from "../../proto/gen/convoke/v1/detection_pb.js";
import type { DispatchSchema } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import type { DispatcherSchema } from "../../proto/gen/convoke/v1/dispatcher_pb.js";
import {
  DispatcherService,
  type ObservationSchema,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";

type Conference = MessageInitShape<typeof ConferenceSchema>;

export interface CannedControlPlaneOptions {
  readonly conferences?: readonly Conference[];
  readonly dispatches?: readonly MessageInitShape<typeof DispatchSchema>[];
  readonly dispatchers?: readonly MessageInitShape<typeof DispatcherSchema>[];
  readonly servers?: readonly MessageInitShape<typeof ServerSchema>[];
  readonly observations?: readonly MessageInitShape<typeof ObservationSchema>[];
  /** GetDetection is not served without. */
  readonly detection?: MessageInitShape<typeof DetectionSchema>;
  readonly brake?: MessageInitShape<typeof BrakeSchema>;
  /** Every call that changes something fails with this, when it returns an error. */
  readonly refuse?: (id: string) => Error | undefined;
}

/** Answers like a control plane that holds exactly what it was given, and notes what it was asked for. */
export interface CannedControlPlane {
  readonly transport: Transport;
  readonly created: CreateConferenceRequest[];
  readonly listed: ListConferencesRequest[];
  /** e.g. `cancel a`, in the order of the calls. */
  readonly changed: string[];
}

/** For the command line's own tests, which are about what is asked and printed; pages as the real one does. */
export function createCannedControlPlane(options: CannedControlPlaneOptions = {}): CannedControlPlane {
  const {
    conferences = [],
    dispatches = [],
    dispatchers = [],
    servers = [],
    observations = [],
    refuse,
  } = options;
  const created: CreateConferenceRequest[] = [];
  const listed: ListConferencesRequest[] = [];
  const changed: string[] = [];
  const change = (verb: string, id: string) => {
    changed.push(`${verb} ${id}`);
    const refusal = refuse?.(id);
    if (refusal) throw refusal;
  };
  const conference = (conferenceId: string) =>
    find(conferences, conferenceId, (item) => item.conferenceId, ErrorReason.CONFERENCE_NOT_FOUND);
  const server = (serverId: string) =>
    find(servers, serverId, (item) => item.serverId, ErrorReason.SERVER_NOT_FOUND);
  const moveConference = (verb: string, state: Conference_State) => (request: { conferenceId: string }) => {
    change(verb, request.conferenceId);
    return { conference: { ...conference(request.conferenceId), state } };
  };
  const moveServer = (verb: string, cordoned: boolean) => (request: { serverId: string }) => {
    change(verb, request.serverId);
    return { server: { ...server(request.serverId), cordoned } };
  };
  const transport = createRouterTransport(({ service }) => {
    service(ConferenceService, {
      createConference(request) {
        created.push(request);
        const refusal = refuse?.(request.conference?.conferenceId ?? "");
        if (refusal) throw refusal;
        const conference = create(ConferenceSchema, request.conference);
        conference.conferenceId ||= "made-up";
        conference.state = Conference_State.SCHEDULED;
        return { conference };
      },
      getConference: ({ conferenceId }) => ({ conference: conference(conferenceId) }),
      listConferences(request) {
        listed.push(request);
        const { items, nextPageToken } = pageOf(conferences, request);
        return { conferences: items, nextPageToken };
      },
      cancelConference: moveConference("cancel", Conference_State.CANCELLED),
      endConference: moveConference("end", Conference_State.ENDED),
      requeueConference: moveConference("requeue", Conference_State.SCHEDULED),
      getDispatch: ({ conferenceId }) => ({
        dispatch: find(dispatches, conferenceId, (row) => row.conferenceId, ErrorReason.DISPATCH_NOT_FOUND),
      }),
      listDispatches(request) {
        const rows = dispatches.filter((row) => !request.serverId || row.serverId === request.serverId);
        const { items, nextPageToken } = pageOf(rows, request);
        return { dispatches: items, nextPageToken };
      },
    });
    service(DispatcherService, {
      listDispatchers(request) {
        const { items, nextPageToken } = pageOf(dispatchers, request);
        return { dispatchers: items, nextPageToken };
      },
    });
    service(ServerService, {
      getServer: ({ serverId }) => ({ server: server(serverId) }),
      listServers(request) {
        const { items, nextPageToken } = pageOf(servers, request);
        return { servers: items, nextPageToken };
      },
      cordonServer: moveServer("cordon", true),
      uncordonServer: moveServer("uncordon", false),
      removeServer({ serverId }) {
        change("remove", serverId);
        return {};
      },
      listObservations: ({ serverId }) => ({
        observations: observations.filter((item) => !serverId || item.serverId === serverId),
      }),
      getDetection() {
        const { detection, brake } = options;
        if (!detection && !brake) throw new ConnectError("no such method", Code.Unimplemented);
        return { ...(detection ? { detection } : {}), ...(brake ? { brake } : {}) };
      },
      releaseBrake({ duration }) {
        change("release-brake", `${duration ? durationMs(duration) : 0} ms`);
        return {
          brake: {
            ...options.brake,
            engaged: false,
            releasedUntil: timestampFromMs(Date.UTC(2030, 0, 1, 0, 5)),
          },
        };
      },
    });
  });
  return { transport, created, listed, changed };
}

function find<T>(
  items: readonly T[],
  id: string,
  idOf: (item: T) => string | undefined,
  reason: ErrorReason,
): T {
  const found = items.find((item) => idOf(item) === id);
  if (!found) throw statusError(Code.NotFound, reason, `there is nothing called ${id}`);
  return found;
}

function pageOf<T>(items: readonly T[], request: { pageSize: number; pageToken: string }) {
  const from = Number(request.pageToken || 0);
  const until = from + (request.pageSize || 100);
  return { items: items.slice(from, until), nextPageToken: until < items.length ? String(until) : "" };
}
