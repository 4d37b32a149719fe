import { clone } from "@bufbuild/protobuf";
import { type DetectionSettings, recoveryDetectionMs } from "../../common/detection.ts";
import { timestampMs } from "../../common/time.ts";
import {
  type Server,
  Server_DrainSchema,
  Server_Health_Cause,
  Server_State,
} from "../../proto/gen/convoke/v1/server_pb.js";
import type { ServerEntry } from "../view/view.ts";
import { type BrakeCount, countBrake } from "./brake.ts";
import { judgeStanding, nextMoveMs, type Standing } from "./standing.ts";
import { type HealthView, type Observers, type Tally, tallyVotes, type Vote } from "./votes.ts";

/** What a replica remembers of a server between two assessments, on its own monotonic clock. */
export interface ServerMemory {
  readonly incarnation: bigint;
  /** Since when a majority calls it failed, as far as this replica has seen without a break. */
  readonly failedSinceMs: number | undefined;
  /** When the brake was seen engaged last while this server was looked at. */
  readonly brakedMs: number | undefined;
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
  const { standings, brake } = survey(view, observers, settings, now.wallMs);
  const memory = new Map<string, ServerMemory>();
  const down: Verdict[] = [];
  const others: Verdict[] = [];
  const waits: number[] = [];
  const waitUntil = (monotonicMs: number) => {
    if (monotonicMs > now.monotonicMs) waits.push(monotonicMs - now.monotonicMs);
  };
  for (const { entry, server, tally, isEmptied } of standings) {
    const nextMs = nextMoveMs(server, now.wallMs);
    if (nextMs !== undefined) waits.push(Math.min(nextMs - now.wallMs, LONGEST_WAIT_MS));
    const own = remember(entry, tally, brake, now.monotonicMs, before.get(server.serverId));
    const declareMs = Math.max(now.declareMs, afterBrakeMs(own, brake, settings));
    const mayDeclare = now.monotonicMs >= declareMs;
    memory.set(server.serverId, own);
    const settledMs = (own.failedSinceMs ?? Number.POSITIVE_INFINITY) + settings.settleMs;
    const hasSettled = settledMs <= now.monotonicMs;
    if (own.failedSinceMs !== undefined && server.state !== Server_State.DOWN) {
      waitUntil(settledMs);
      waitUntil(declareMs);
      if (brake.nextMs !== undefined) waits.push(Math.min(brake.nextMs - now.wallMs, LONGEST_WAIT_MS));
    }
    const isHeldBack = brake.isEngaged && !isEmptied;
    const at = { nowMs: now.wallMs, hasSettled, mayDeclare, brake: { ...brake, isEngaged: isHeldBack } };
    const standing = judgeStanding(server, tally, at);
    const paceMs = standing && paceOf(server, standing);
    if (!standing || paceMs === undefined) continue;
    if (own.knownSinceMs + paceMs > now.monotonicMs) {
      waitUntil(own.knownSinceMs + paceMs);
      continue;
    }
    const isDown = standing.state === Server_State.DOWN && server.state !== Server_State.DOWN;
    const verdict = { entry, standing, votes: tally.failed };
    if (isDown) down.push({ ...verdict, standing: withDrain(standing, server, isEmptied) });
    else others.push(verdict);
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
  const { standings, brake } = survey(view, observers, settings, nowMs);
  const held = standings.filter(({ server }) => isHeld(server));
  return { count: brake, heldServerIds: held.map(({ server }) => server.serverId) };
}

interface Surveyed {
  readonly entry: ServerEntry;
  readonly server: Server;
  readonly tally: Tally;
  readonly isFailing: boolean;
  /** Whether it has been drained, so that nothing moves when it goes. */
  readonly isEmptied: boolean;
}

/** Counts votes and brake. Nearly all servers are well and have been so for long: those only count as servers. */
function survey(
  view: HealthView,
  observers: Observers,
  settings: DetectionSettings,
  nowMs: number,
): { readonly standings: readonly Surveyed[]; readonly brake: BrakeCount } {
  const standings: Surveyed[] = [];
  let uneventful = 0;
  for (const entry of view.servers.values()) {
    const { server } = entry;
    if (isUneventful(view, server)) {
      uneventful += 1;
      continue;
    }
    const tally = tallyVotes(view, server, observers(view, server.serverId), settings, nowMs);
    standings.push({
      entry,
      server,
      tally,
      isFailing: isFailing(server, tally, nowMs),
      isEmptied: isEmptied(view, server),
    });
  }
  const { releasedUntilMs } = view.brake;
  const counted = standings.filter((each) => !each.isEmptied);
  return { standings, brake: countBrake(counted, uneventful, settings, { nowMs, releasedUntilMs }) };
}

/**
 * Agents of drained servers are stopped, often of many at once: that is no reason to hold back the death of another. Of
 * one that is DOWN every dispatch is void, so its record says whether it had been emptied before; one that is drained
 * only then had not.
 */
function isEmptied(view: HealthView, { serverId, state, drain }: Server): boolean {
  if (drain === undefined) return false;
  return state === Server_State.DOWN ? drain.done : view.hostingOf(serverId).conferences.size === 0;
}

/** Has the record of a server that is declared DOWN keep whether its drain was done. */
function withDrain(standing: Standing, { drain }: Server, isEmptied: boolean): Standing {
  return drain
    ? { ...standing, drain: Object.assign(clone(Server_DrainSchema, drain), { done: isEmptied }) }
    : standing;
}

function isUneventful(view: HealthView, { serverId, state, health }: Server): boolean {
  if (state !== Server_State.UP || health?.downTime || health?.restartDeadline) return false;
  return view.observations.ofServer(serverId).size === 0;
}

/** A restart that was announced says nothing of the network. */
function isFailing({ health }: Server, { failing, majority }: Tally, nowMs: number): boolean {
  if (health?.restartDeadline && timestampMs(health.restartDeadline) > nowMs) return false;
  return failing.length >= majority;
}

function isHeld({ state, health }: Server): boolean {
  return state === Server_State.SUSPECT && health?.cause === Server_Health_Cause.HELD_BY_BRAKE;
}

/**
 * When a server may be declared DOWN that failed while the brake was engaged. A network that heals is seen to heal at one
 * server before another: were those left declared DOWN as soon as they are few enough, it would move them while it heals.
 * An operator who releases the brake knows better.
 */
function afterBrakeMs(
  { brakedMs }: ServerMemory,
  { isReleased }: BrakeCount,
  settings: DetectionSettings,
): number {
  if (brakedMs === undefined || isReleased) return Number.NEGATIVE_INFINITY;
  return brakedMs + Math.max(settings.graceMs, recoveryDetectionMs(settings));
}

function remember(
  { server, modRevision }: ServerEntry,
  tally: Tally,
  { isEngaged }: BrakeCount,
  nowMs: number,
  before: ServerMemory | undefined,
): ServerMemory {
  const { incarnation } = server;
  const isFailed = tally.called.length >= tally.majority;
  const same = before?.incarnation === incarnation ? before : undefined;
  // A record met for the first time may be of any age.
  const isKnown = before?.modRevision === modRevision;
  return {
    incarnation,
    failedSinceMs: isFailed ? (same?.failedSinceMs ?? nowMs) : undefined,
    brakedMs: isEngaged ? nowMs : same?.brakedMs,
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
