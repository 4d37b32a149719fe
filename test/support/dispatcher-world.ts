import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import type { AgentClient } from "../../client/transport/client.ts";
import { statusError } from "../../common/rpc/status.ts";
import { durationFromMs, durationMs, timestampFromMs } from "../../common/time.ts";
import { AgentService, type StartConferencesRequest } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { Dispatch_MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import {
  type CommitDispatchesRequest,
  DispatcherService,
  type NewDispatch,
  Observation_Verdict,
  TaskRelease_Cause,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";

/** A conference as the world knows it. */
export interface WorldConference {
  readonly id: string;
  readonly weight: number;
  readonly requiredLabels: Readonly<Record<string, string>>;
  /** Why it is moved, and from where. */
  readonly moveReason: Dispatch_MoveReason;
  readonly previousServerId: string;
  /** Since 1970. */
  readonly startMs: number;
  state: "due" | "claimed" | "active" | "failed";
  claim?: { readonly epoch: bigint; readonly dispatchEpoch: bigint };
  dispatch?: NewDispatch;
  readonly releases: { readonly cause: string; readonly message: string }[];
}

/** A conference server with its agent. */
export interface WorldServer {
  readonly id: string;
  capacity: number;
  /** Units that others have placed. */
  othersUnits: number;
  incarnation: bigint;
  state: Server_State;
  /** What a probe gets; throws to fail it. */
  keepalive: () => Promise<void> | void;
  readonly labels: Readonly<Record<string, string>>;
  /** Dispatch epochs by conference. */
  readonly hosted: Map<string, bigint>;
  readonly stopped: string[];
  /** Runs before a start is carried out; throws instead of starting. */
  beforeStart: (request: StartConferencesRequest) => Promise<void> | void;
  /** Runs after it was carried out; throws to lose the reply. */
  afterStart: (request: StartConferencesRequest) => Promise<void> | void;
  /** Rejects single conferences. */
  rejectStart: (conferenceId: string) => { reason: ErrorReason; message: string } | undefined;
}

/**
 * A control plane and agents in memory, for tests of one dispatcher: as much of the contracts as it can see, with faults
 * where a test wants them. It checks that no dead epoch is let through.
 */
export function createDispatcherWorld() {
  const conferences = new Map<string, WorldConference>();
  const servers = new Map<string, WorldServer>();
  const calls: string[] = [];
  const hooks = {
    beforeCommit: async (_request: CommitDispatchesRequest) => {},
    afterCommit: async (_request: CommitDispatchesRequest) => {},
    rejectCommit: (_dispatch: NewDispatch): { reason: ErrorReason; message: string } | undefined => undefined,
    beforeFetch: async () => {},
  };
  /** What each server was last reported as, by its ID. */
  const reported = new Map<string, { readonly verdict: string; readonly inARow: number }>();
  let revision = 100n;
  let liveEpoch = 0n;
  let dispatcherIds: string[] = [];

  const reservedOn = ({ id, incarnation, othersUnits }: WorldServer) =>
    [...conferences.values()]
      .filter(({ dispatch }) => dispatch?.serverId === id && dispatch.incarnation === incarnation)
      .reduce((sum, { weight }) => sum + weight, othersUnits);

  const messageOf = (server: WorldServer) => ({
    serverId: server.id,
    agentAddress: `${server.id}:1`,
    capacity: server.capacity,
    incarnation: server.incarnation,
    state: server.state,
    labels: { ...server.labels },
    reservedUnits: reservedOn(server),
  });

  function checkEpoch(epoch: bigint) {
    if (epoch !== liveEpoch) {
      throw statusError(Code.FailedPrecondition, ErrorReason.EPOCH_EXPIRED, "register again");
    }
  }

  function commitOne(dispatch: NewDispatch, epoch: bigint) {
    const { conferenceId, dispatchEpoch, serverId } = dispatch;
    const conference = conferences.get(conferenceId);
    const server = servers.get(serverId);
    const refusal = hooks.rejectCommit(dispatch);
    if (refusal) return refusal;
    if (conference?.claim?.epoch !== epoch || conference.claim.dispatchEpoch !== dispatchEpoch) {
      return { reason: ErrorReason.CLAIM_LOST, message: "not claimed by this dispatcher" };
    }
    if (conference.state === "active") {
      const same = conference.dispatch?.serverId === serverId;
      return same ? undefined : { reason: ErrorReason.CLAIM_LOST, message: "placed elsewhere" };
    }
    if (!server || server.incarnation !== dispatch.incarnation) {
      return { reason: ErrorReason.INCARNATION_EXPIRED, message: "another life" };
    }
    if (reservedOn(server) + conference.weight > server.capacity) {
      return { reason: ErrorReason.CAPACITY_EXCEEDED, message: "full" };
    }
    conference.state = "active";
    conference.dispatch = dispatch;
    return undefined;
  }

  function taskOf({ id, weight, requiredLabels, claim, ...more }: WorldConference) {
    return {
      conferenceId: id,
      weight,
      moveReason: more.moveReason,
      previousServerId: more.previousServerId,
      startTime: timestampFromMs(more.startMs),
      requiredLabels: { ...requiredLabels },
      dispatchEpoch: claim?.dispatchEpoch ?? 0n,
      validUntil: timestampFromMs(Date.now() + 3_600_000),
    };
  }

  const control = createRouterTransport(({ service }) => {
    service(DispatcherService, {
      registerDispatcher({ dispatcherId, ttl }) {
        liveEpoch = ++revision;
        dispatcherIds = [dispatcherId];
        calls.push("register");
        const ttlMs = ttl ? durationMs(ttl) : 5_000;
        return {
          dispatcher: { dispatcherId, epoch: liveEpoch, ttl: durationFromMs(ttlMs) },
          heartbeatInterval: durationFromMs(ttlMs / 3),
        };
      },
      heartbeat({ epoch }) {
        checkEpoch(epoch);
        return {};
      },
      listDispatchers: () => ({}),
      async *watchDispatchers(_request, { signal }) {
        for (let told = -1n; !signal.aborted; ) {
          if (told < liveEpoch) {
            told = liveEpoch;
            const events = dispatcherIds.map((dispatcherId) => ({
              type: EventType.PUT,
              dispatcher: { dispatcherId },
            }));
            yield { revision: ++revision, events };
          }
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      },
      reportObservations({ epoch, observations }) {
        checkEpoch(epoch);
        for (const { serverId, verdict, inARow } of observations)
          reported.set(serverId, { verdict: Observation_Verdict[verdict], inARow });
        return {};
      },
      deregisterDispatcher({ epoch }) {
        calls.push("deregister");
        if (epoch === liveEpoch) liveEpoch = 0n;
        return {};
      },
      queryTotal() {
        const open = [...conferences.values()].filter(({ state }) => state === "due" || state === "claimed");
        return { total: open.length, share: open.length, dispatcherCount: 1, rank: 0, revision };
      },
      async *fetchTasks({ epoch, wait }, { signal }) {
        checkEpoch(epoch);
        await hooks.beforeFetch();
        const untilMs = Date.now() + (wait ? durationMs(wait) : 0);
        for (;;) {
          const mine = [...conferences.values()].filter((conference) => {
            if (conference.state === "claimed" && conference.claim?.epoch !== liveEpoch)
              conference.state = "due";
            return conference.state === "due" || conference.state === "claimed";
          });
          for (const conference of mine) {
            if (conference.state === "claimed") continue;
            conference.state = "claimed";
            conference.claim = { epoch, dispatchEpoch: ++revision };
          }
          for (let from = 0; from < mine.length; from += 100) {
            yield { tasks: mine.slice(from, from + 100).map(taskOf) };
          }
          if (mine.length > 0 || Date.now() >= untilMs || signal.aborted) return;
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      },
      async commitDispatches(request) {
        calls.push(`commit ${request.dispatches.length}`);
        await hooks.beforeCommit(request);
        checkEpoch(request.epoch);
        const results = request.dispatches.map((dispatch) => {
          const rejection = commitOne(dispatch, request.epoch);
          return {
            conferenceId: dispatch.conferenceId,
            outcome: rejection
              ? { case: "rejection" as const, value: rejection }
              : { case: "dispatch" as const, value: { conferenceId: dispatch.conferenceId } },
          };
        });
        const response = { results, revision: ++revision };
        await hooks.afterCommit(request);
        return response;
      },
      releaseTasks({ epoch, releases }) {
        checkEpoch(epoch);
        const results = releases.map(({ conferenceId, dispatchEpoch, cause, message }) => {
          const conference = conferences.get(conferenceId);
          const held = conference?.state === "claimed" && conference.claim?.dispatchEpoch === dispatchEpoch;
          if (!conference || !held) {
            return { conferenceId, rejection: { reason: ErrorReason.CLAIM_LOST, message: "not yours" } };
          }
          conference.releases.push({ cause: TaskRelease_Cause[cause], message });
          // A real control plane would hand it out again; tests look at the release.
          conference.state = "failed";
          return { conferenceId };
        });
        return { results };
      },
    });
    service(ServerService, {
      listServers: () => ({ servers: [...servers.values()].map(messageOf), revision }),
      async *watchServers(_request, { signal }) {
        const events = [...servers.values()].map((server) => ({
          type: EventType.PUT,
          server: messageOf(server),
        }));
        yield { revision, events };
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
  });

  function agentTransport(address: string) {
    const server = servers.get(address.split(":")[0] ?? "");
    return createRouterTransport(({ service }) => {
      if (!server) return;
      service(AgentService, {
        async keepalive() {
          await server.keepalive();
          return { serverId: server.id, incarnation: server.incarnation };
        },
        async startConferences(request) {
          calls.push(`start ${server.id} ${request.starts.length}`);
          await server.beforeStart(request);
          if (request.incarnation !== server.incarnation) {
            throw statusError(
              Code.FailedPrecondition,
              ErrorReason.INCARNATION_EXPIRED,
              `this is incarnation ${server.incarnation}`,
            );
          }
          const results = request.starts.map(({ conferenceId, dispatchEpoch }) => {
            const rejection = server.rejectStart(conferenceId);
            if (rejection) return { conferenceId, outcome: { case: "rejection" as const, value: rejection } };
            server.hosted.set(conferenceId, dispatchEpoch);
            const value = `ws://${server.id}/${conferenceId}`;
            return { conferenceId, outcome: { case: "address" as const, value } };
          });
          await server.afterStart(request);
          return { results };
        },
        stopConferences({ stops }) {
          for (const { conferenceId } of stops) {
            server.stopped.push(conferenceId);
            server.hosted.delete(conferenceId);
          }
          return { results: stops.map(({ conferenceId }) => ({ conferenceId })) };
        },
      });
    });
  }

  return {
    conferences,
    servers,
    reported,
    calls,
    hooks,
    clients: {
      dispatchers: createClient(DispatcherService, control),
      servers: createClient(ServerService, control),
    },
    connectAgent: (address: string): AgentClient =>
      Object.assign(createClient(AgentService, agentTransport(address)), {
        close() {},
        [Symbol.dispose]() {},
      }),
    addServer(id: string, more: Partial<Omit<WorldServer, "id" | "hosted" | "stopped">> = {}): WorldServer {
      const server: WorldServer = {
        id,
        capacity: 1_000,
        othersUnits: 0,
        incarnation: 1n,
        state: Server_State.UP,
        labels: {},
        hosted: new Map(),
        stopped: [],
        beforeStart: () => {},
        afterStart: () => {},
        rejectStart: () => undefined,
        keepalive: () => {},
        ...more,
      };
      servers.set(id, server);
      revision++;
      return server;
    },
    addConferences(count: number, more: Partial<Omit<WorldConference, "id" | "state" | "releases">> = {}) {
      return Array.from({ length: count }, () => {
        const id = `c${conferences.size}`;
        const conference: WorldConference = {
          id,
          weight: 1,
          requiredLabels: {},
          moveReason: Dispatch_MoveReason.UNSPECIFIED,
          previousServerId: "",
          startMs: Date.now(),
          state: "due",
          releases: [],
          ...more,
        };
        conferences.set(id, conference);
        return conference;
      });
    },
    /** Ends the live registration, as the end of its lease does. */
    expireEpoch() {
      liveEpoch = 0n;
    },
    /** What each server hosts under its dispatch, by server; throws when table and agents differ. */
    activeByServer(): Record<string, number> {
      const counts: Record<string, number> = {};
      for (const { id, state, dispatch } of conferences.values()) {
        if (state !== "active" || !dispatch) continue;
        const hosted = servers.get(dispatch.serverId)?.hosted.get(id);
        if (hosted !== dispatch.dispatchEpoch) throw new Error(`${id} is in the table and not hosted`);
        counts[dispatch.serverId] = (counts[dispatch.serverId] ?? 0) + 1;
      }
      for (const server of servers.values()) {
        for (const id of server.hosted.keys()) {
          if (conferences.get(id)?.dispatch?.serverId !== server.id) {
            throw new Error(`${id} is hosted on ${server.id} in vain`);
          }
        }
      }
      return counts;
    },
    unreachable: () => new ConnectError("connection refused", Code.Unavailable),
    lost: () => new ConnectError("connection lost", Code.Unavailable),
    late: () => new ConnectError("too late", Code.DeadlineExceeded),
  };
}

export type DispatcherWorld = ReturnType<typeof createDispatcherWorld>;
