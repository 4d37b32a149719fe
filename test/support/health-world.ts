import { clone, create } from "@bufbuild/protobuf";
import { compileDetection, type DetectionSettings } from "../../common/detection.ts";
import { Observation_Verdict, ObservationSchema } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import {
  type Server,
  Server_DrainSchema,
  Server_Health_Cause,
  Server_State,
  ServerSchema,
} from "../../proto/gen/convoke/v1/server_pb.js";
import { type Assessment, assess, type Memory } from "../../server/health/assess.ts";
import { heardWithinMs, judgeRegistration } from "../../server/health/standing.ts";
import { createObservers, type HealthView } from "../../server/health/votes.ts";
import type { ObservationEntry, WithdrawalEntry } from "../../server/view/observations.ts";
import type { ServerEntry } from "../../server/view/view.ts";

/** Servers, observers and their votes in memory, judged step by step: what a replica does, without a store. */
export interface HealthWorld {
  readonly view: HealthView;
  readonly settings: DetectionSettings;
  readonly nowMs: number;
  pass(ms: number): void;
  addDispatcher(id: string): void;
  /** Ends a registration, and with its lease everything it had reported. */
  removeDispatcher(id: string): void;
  /** Registers a server, or another life of it. */
  register(
    serverId: string,
    options?: { readonly restartWithinMs?: number; readonly isNewLife?: boolean },
  ): Server;
  vote(dispatcherId: string, serverId: string, vote: WorldVote | undefined): void;
  withdraw(dispatcherId: string, isWithdrawn: boolean): void;
  release(untilMs: number): void;
  /** Drains a server, with so many conferences left on it. */
  drain(serverId: string, conferencesLeft: number): void;
  /** Judges as a replica does, and writes all it says. Returns how many records were written. */
  judge(): number;
  /** Judges and lets time pass by turns. Returns how many records were written. */
  settle(ms: number, stepMs?: number): number;
  /** Judges, and writes nothing. */
  look(): Assessment;
  server(serverId: string): Server;
  /** `DOWN REFUSALS`. */
  stateOf(serverId: string): string;
  /** Forgets what the replica remembers, as another one that begins now. */
  forget(): void;
}

export interface WorldVote {
  readonly verdict: Observation_Verdict;
  readonly inARow: number;
  /** Default: the server's present one. */
  readonly incarnation?: bigint;
  readonly detail?: string;
}

const { OK, FAILED, TIMEOUT } = Observation_Verdict;

/** Votes with the `lan` profile. */
export const VOTES = {
  answers: { verdict: OK, inARow: 2 },
  refusedOnce: { verdict: FAILED, inARow: 1 },
  refused: { verdict: FAILED, inARow: 2 },
  silentOnce: { verdict: TIMEOUT, inARow: 1 },
  silent: { verdict: TIMEOUT, inARow: 3 },
} as const satisfies Record<string, WorldVote>;

const START_MS = Date.UTC(2030, 0, 1);

export function createHealthWorld(given: Partial<DetectionSettings> = {}): HealthWorld {
  const settings = compileDetection(given);
  const servers = new Map<string, ServerEntry>();
  const dispatchers = new Map<string, { lease: bigint }>();
  const reports = new Map<string, Map<string, ObservationEntry>>();
  const withdrawals = new Map<string, WithdrawalEntry>();
  const brake = { releasedUntilMs: 0 };
  const hosted = new Map<string, number>();
  let observers = createObservers(settings);
  let memory: Memory = new Map();
  let revision = 1n;
  let registryRevision = 1n;
  let elapsedMs = 0;
  let declareMs = settings.graceMs;
  const view: HealthView = {
    servers,
    dispatchers,
    observations: {
      ofServer: (id) => reports.get(id) ?? new Map(),
      withdrawalOf: (id) => withdrawals.get(id),
    },
    hostingOf: (id) => ({ conferences: { size: hosted.get(id) ?? 1 } }),
    get registryRevision() {
      return registryRevision;
    },
    brake,
  };
  const write = (server: Server) => {
    revision += 1n;
    servers.set(server.serverId, { server, modRevision: revision });
  };
  const world: HealthWorld = {
    view,
    settings,
    get nowMs() {
      return START_MS + elapsedMs;
    },
    pass(ms) {
      elapsedMs += ms;
    },
    addDispatcher(id) {
      revision += 1n;
      registryRevision = revision;
      dispatchers.set(id, { lease: revision });
    },
    removeDispatcher(id) {
      revision += 1n;
      registryRevision = revision;
      dispatchers.delete(id);
      withdrawals.delete(id);
      for (const votes of reports.values()) votes.delete(id);
    },
    register(serverId, { restartWithinMs = 0, isNewLife = true } = {}) {
      const before = servers.get(serverId)?.server;
      const { state, health } = judgeRegistration(before, {
        isNewLife,
        restartWithinMs,
        nowMs: world.nowMs,
        unheardMs: heardWithinMs(settings),
      });
      const server = Object.assign(clone(ServerSchema, before ?? create(ServerSchema, { serverId })), {
        state,
        incarnation: (before?.incarnation ?? 0n) + (isNewLife ? 1n : 0n),
        ...(health ? { health } : {}),
      });
      write(server);
      return server;
    },
    vote(dispatcherId, serverId, vote) {
      revision += 1n;
      const votes = reports.get(serverId) ?? new Map<string, ObservationEntry>();
      reports.set(serverId, votes);
      const lease = dispatchers.get(dispatcherId)?.lease;
      if (!vote || lease === undefined) {
        votes.delete(dispatcherId);
        return;
      }
      const incarnation = vote.incarnation ?? servers.get(serverId)?.server.incarnation ?? 1n;
      const observation = create(ObservationSchema, { ...vote, serverId, dispatcherId, incarnation });
      votes.set(dispatcherId, { observation, modRevision: revision, lease });
    },
    withdraw(dispatcherId, isWithdrawn) {
      revision += 1n;
      if (isWithdrawn) withdrawals.set(dispatcherId, { reason: "", modRevision: revision, lease: 1n });
      else withdrawals.delete(dispatcherId);
    },
    release(untilMs) {
      brake.releasedUntilMs = untilMs;
    },
    drain(serverId, conferencesLeft) {
      hosted.set(serverId, conferencesLeft);
      const drained = { cordoned: true, drain: create(Server_DrainSchema) };
      write(Object.assign(clone(ServerSchema, world.server(serverId)), drained));
    },
    look() {
      const now = { wallMs: world.nowMs, monotonicMs: elapsedMs, declareMs };
      return assess(view, observers, settings, now, memory);
    },
    judge() {
      const { verdicts, memory: next } = world.look();
      memory = next;
      for (const { entry, standing } of verdicts)
        write(Object.assign(clone(ServerSchema, entry.server), standing));
      return verdicts.length;
    },
    settle(ms, stepMs = 50) {
      let written = world.judge();
      for (let leftMs = ms; leftMs > 0; leftMs -= stepMs) {
        world.pass(Math.min(stepMs, leftMs));
        written += world.judge();
      }
      return written;
    },
    server(serverId) {
      const entry = servers.get(serverId);
      if (!entry) throw new Error(`no server ${serverId}`);
      return entry.server;
    },
    stateOf(serverId) {
      const { state, health } = world.server(serverId);
      return `${Server_State[state]} ${Server_Health_Cause[health?.cause ?? 0]}`;
    },
    forget() {
      memory = new Map();
      observers = createObservers(settings);
      declareMs = elapsedMs + settings.graceMs;
    },
  };
  return world;
}
