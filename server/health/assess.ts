import type { DetectionSettings } from "../../common/detection.ts";
import { timestampMs } from "../../common/time.ts";
import { type Server, Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { ServerEntry } from "../view/view.ts";
import { type BrakeCount, countBrake } from "./brake.ts";
import { judgeStanding, nextMoveMs, type Standing } from "./standing.ts";
import { type HealthView, type Observers, type Tally, tallyVotes, type Vote } from "./votes.ts";

/** What a replica remembers of a server between two assessments, on its own monotonic clock. */
export interface ServerMemory {
  readonly incarnation: bigint;
  /** Since when a majority calls it failed, as far as this replica has seen without a break. */
  readonly failedSinceMs: number | undefined;
  /** The record, and since when this replica knows it. */
  readonly modRevision: bigint;
  readonly knownSinceMs: number;
}

/** Of the servers that are worth remembering, by ID. */
export type Memory = ReadonlyMap<string, ServerMemory>;

export interface Moment {
  readonly wallMs: number;
  readonly monotonicMs: number;
  /** When this replica may declare servers DOWN, on the monotonic clock: after its grace. */
  readonly declareMs: number;
}

/** A server that is to be moved to another standing. */
export interface Verdict {
  readonly entry: ServerEntry;
  readonly standing: Standing;
  /** The votes that it rests on. */
  readonly votes: readonly Vote[];
}

export interface Assessment {
  /** What is to be written, those that go DOWN first. */
  readonly verdicts: readonly Verdict[];
  readonly brake: BrakeCount;
  readonly memory: Memory;
  /** In how many milliseconds time alone may change something; undefined when only the view can. */
  readonly nextInMs: number | undefined;
}

/**
 * How soon a record is written anew after it was written last. DOWN never waits. The others do, for two replicas that do
 * not agree, by other settings or clocks, must not write against each other without end; and what only people read may be
 * a little behind, or a network that comes and goes would rewrite all servers with every vote.
 */
const PACE_MS = { state: 250, cause: 1_000, message: 5_000 } as const;

/** Waits that end by the wall clock, which may jump, are looked after this often. */
const LONGEST_WAIT_MS = 5_000;

/** Judges all servers by one view. Pure: it reads the view, and returns what is to be remembered until the next time. */
export function assess(
  view: HealthView,
  observers: Observers,
  settings: DetectionSettings,
  now: Moment,
  before: Memory,
): Assessment {
  const standings = [...view.servers.values()].map((entry) => {
    const tally = tallyOf(view, observers, settings, entry.server);
    return { entry, server: entry.server, tally, isFailing: isFailing(entry.server, tally, now.wallMs) };
  });
  const { releasedUntilMs } = view.brake;
  const brake = countBrake(standings, settings, { nowMs: now.wallMs, releasedUntilMs });
  const memory = new Map<string, ServerMemory>();
  const down: Verdict[] = [];
  const others: Verdict[] = [];
  const waits: number[] = [];
  const waitUntil = (monotonicMs: number) => {
    if (monotonicMs > now.monotonicMs) waits.push(monotonicMs - now.monotonicMs);
  };
  const mayDeclare = now.monotonicMs >= now.declareMs;
  for (const { entry, server, tally } of standings) {
    const nextMs = nextMoveMs(server, now.wallMs);
    if (nextMs !== undefined) waits.push(Math.min(nextMs - now.wallMs, LONGEST_WAIT_MS));
    if (!tally) continue;
    const own = remember(entry, tally, now.monotonicMs, before.get(server.serverId));
    memory.set(server.serverId, own);
    const settledMs = (own.failedSinceMs ?? Number.POSITIVE_INFINITY) + settings.settleMs;
    const hasSettled = settledMs <= now.monotonicMs;
    if (own.failedSinceMs !== undefined && server.state !== Server_State.DOWN) {
      waitUntil(settledMs);
      waitUntil(now.declareMs);
      if (brake.nextMs !== undefined) waits.push(Math.min(brake.nextMs - now.wallMs, LONGEST_WAIT_MS));
    }
    const at = { nowMs: now.wallMs, hasSettled, mayDeclare, brake };
    const standing = judgeStanding(server, tally, at);
    const paceMs = standing && paceOf(server, standing);
    if (!standing || paceMs === undefined) continue;
    if (own.knownSinceMs + paceMs > now.monotonicMs) {
      waitUntil(own.knownSinceMs + paceMs);
      continue;
    }
    const isDown = standing.state === Server_State.DOWN && server.state !== Server_State.DOWN;
    (isDown ? down : others).push({ entry, standing, votes: tally.failed });
  }
  const nextInMs = waits.length > 0 ? Math.max(0, Math.min(...waits)) : undefined;
  return { verdicts: [...down, ...others], brake, memory, nextInMs };
}

/** The brake by one view, and the servers it holds in order of their IDs. */
export function assessBrake(
  view: HealthView,
  observers: Observers,
  settings: DetectionSettings,
  nowMs: number,
): { readonly count: BrakeCount; readonly heldServerIds: readonly string[] } {
  const servers = [...view.servers.values()].map(({ server }) => server);
  const standings = servers.map((server) => ({
    server,
    isFailing: isFailing(server, tallyOf(view, observers, settings, server), nowMs),
  }));
  return {
    count: countBrake(standings, settings, { nowMs, releasedUntilMs: view.brake.releasedUntilMs }),
    heldServerIds: servers.filter(isHeld).map(({ serverId }) => serverId),
  };
}

/** The votes on a server; undefined for one that is UP and has neither votes nor a past, as nearly all are. */
function tallyOf(
  view: HealthView,
  observers: Observers,
  settings: DetectionSettings,
  server: Server,
): Tally | undefined {
  const isWell = server.state === Server_State.UP && !server.health?.failures;
  if (isWell && view.observations.ofServer(server.serverId).size === 0) return undefined;
  return tallyVotes(view, server, observers(view, server.serverId), settings);
}

/** A restart that was announced says nothing of the network. */
function isFailing(server: Server, tally: Tally | undefined, nowMs: number): boolean {
  const { restartDeadline } = server.health ?? {};
  if (restartDeadline && timestampMs(restartDeadline) > nowMs) return false;
  return tally !== undefined && tally.failing.length >= tally.majority;
}

function isHeld({ state, health }: Server): boolean {
  return state === Server_State.SUSPECT && health?.cause === Server_Health_Cause.HELD_BY_BRAKE;
}

function remember(
  { server, modRevision }: ServerEntry,
  tally: Tally,
  nowMs: number,
  before: ServerMemory | undefined,
): ServerMemory {
  const { incarnation } = server;
  const isFailed = tally.failed.length >= tally.majority;
  const failedBefore = before?.incarnation === incarnation ? before.failedSinceMs : undefined;
  // A record met for the first time may be of any age.
  const isKnown = before?.modRevision === modRevision;
  return {
    incarnation,
    failedSinceMs: isFailed ? (failedBefore ?? nowMs) : undefined,
    modRevision,
    knownSinceMs: isKnown ? before.knownSinceMs : before ? nowMs : Number.NEGATIVE_INFINITY,
  };
}

/** How long after the last write this one may come; undefined when it says nothing new. */
function paceOf({ state, health }: Server, next: Standing): number | undefined {
  if (state !== next.state) return next.state === Server_State.DOWN ? 0 : PACE_MS.state;
  if (health?.cause !== next.health.cause || health.failures !== next.health.failures) return PACE_MS.cause;
  return health.message === next.health.message ? undefined : PACE_MS.message;
}
