import { clone, create } from "@bufbuild/protobuf";
import { type DetectionSettings, recoveryDetectionMs } from "../../common/detection.ts";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import {
  type Server,
  type Server_Drain,
  type Server_Health,
  Server_Health_Cause,
  Server_HealthSchema,
  Server_State,
} from "../../proto/gen/convoke/v1/server_pb.js";
import type { BrakeCount } from "./brake.ts";
import { holdMs, QUIET_MS } from "./dampening.ts";
import {
  dampenedMessage,
  failuresMessage,
  heldMessage,
  recoveredMessage,
  restartingMessage,
} from "./messages.ts";
import type { Tally } from "./votes.ts";

/**
 * The states of a conference server, and what moves it from one to another. "Majority" is one of the server's observers,
 * whether they report or not; `server/health/votes.ts` says whose votes count.
 *
 * | state | next | cause | when |
 * | --- | --- | --- | --- |
 * | none | UP | REGISTERED | its agent registers for the first time |
 * | UP, SUSPECT | UP | REGISTERED | its agent registers another instance: a new incarnation |
 * | UP | SUSPECT | REFUSALS, TIMEOUTS | a majority reports failures, of which most are explicit or not |
 * | SUSPECT | UP | ANSWERS | no majority reports failures any more |
 * | UP, SUSPECT | SUSPECT | RESTARTING | a majority reports failures, and its agent said it would restart by later |
 * | SUSPECT | DOWN | REFUSALS, TIMEOUTS | a majority has called it failed for `settle`, and nothing below forbids it |
 * | SUSPECT | SUSPECT | HELD_BY_BRAKE | the same, observers that have withdrawn included, while the brake is engaged |
 * | DOWN | DOWN | DAMPENED | a majority reports answers, or a new incarnation registers, before `hold_until` |
 * | DOWN, dampened | DOWN | REFUSALS, TIMEOUTS | a majority reports failures again |
 * | DOWN | UP | ANSWERS | a majority reports answers, and `hold_until` has passed |
 * | DOWN | UP | REGISTERED | a new incarnation registers after `hold_until` |
 *
 * Nothing is declared DOWN within `grace` since the replica began to follow the store, nor, unless an operator released it,
 * within that time after the brake let go; and nothing is declared at all while the replica does not follow the store.
 * SUSPECT costs nobody a conference, so it waits for nothing.
 */
export interface Standing {
  readonly state: Server_State;
  readonly health: Server_Health;
  /** Its drain, where the record is to say more of it. */
  readonly drain?: Server_Drain;
}

/** What a standing is judged by, beside the votes. */
export interface Circumstances {
  /** By the wall clock. */
  readonly nowMs: number;
  /** Whether a majority has called it failed for as long as others that fail with it are waited for. */
  readonly hasSettled: boolean;
  /** Whether this replica is not within its grace, nor this server within that after the brake. */
  readonly mayDeclare: boolean;
  readonly brake: BrakeCount;
}

const { REGISTERED, ANSWERS, TIMEOUTS, REFUSALS, DAMPENED, HELD_BY_BRAKE, RESTARTING } = Server_Health_Cause;

/** Where the votes move a server; undefined when they leave it as it is. */
export function judgeStanding(server: Server, tally: Tally, at: Circumstances): Standing | undefined {
  const { failing, answering, majority } = tally;
  if (server.state === Server_State.DOWN) {
    if (answering.length >= majority) return judgeReturn(server, tally, at);
    const isBackNoMore = failing.length >= majority && server.health?.cause === DAMPENED;
    return isBackNoMore ? standing(server, Server_State.DOWN, voted(tally), at) : undefined;
  }
  if (failing.length >= majority) return judgeFailing(server, tally, at);
  if (server.state === Server_State.SUSPECT)
    return standing(server, Server_State.UP, { cause: ANSWERS, message: recoveredMessage(tally) }, at);
  return isQuiet(server, at) ? { state: server.state, health: calmed(server) } : undefined;
}

/**
 * Where a registration moves a server; records of former versions have no health. An agent that is back from an announced
 * restart is still called failed by observers that have yet to hear it, so it has `unheardMs` for that, of the time that
 * it had announced.
 */
export function judgeRegistration(
  server: Server | undefined,
  { isNewLife, restartWithinMs, nowMs, unheardMs = 0 }: RegistrationCircumstances,
): { readonly state: Server_State; readonly health: Server_Health | undefined } {
  const { state, health } = registered(server, isNewLife, nowMs);
  const { restartDeadline } = server?.health ?? {};
  const announcedMs = restartDeadline && !isNewLife ? timestampMs(restartDeadline) : 0;
  const untilMs = restartWithinMs > 0 ? nowMs + restartWithinMs : Math.min(announcedMs, nowMs + unheardMs);
  if (health) delete health.restartDeadline;
  if (untilMs <= nowMs) return { state, health };
  return {
    state,
    health: Object.assign(health ?? create(Server_HealthSchema), {
      restartDeadline: timestampFromMs(Math.round(untilMs)),
    }),
  };
}

/** How long observers go on to call a server failed that is back: they learn where it is now, and then have to hear it. */
export function heardWithinMs(settings: DetectionSettings): number {
  return 2 * recoveryDetectionMs(settings);
}

interface RegistrationCircumstances {
  readonly isNewLife: boolean;
  readonly restartWithinMs: number;
  /** By the wall clock. */
  readonly nowMs: number;
  /** How long observers take at most to hear a server again. Default 0. */
  readonly unheardMs?: number;
}

function registered(server: Server | undefined, isNewLife: boolean, nowMs: number) {
  if (server && !isNewLife)
    return { state: server.state, health: server.health && clone(Server_HealthSchema, server.health) };
  if (server?.state === Server_State.DOWN && holdUntilMs(server) > nowMs) {
    const message = dampenedMessage(server.health?.failures ?? 1, holdUntilMs(server));
    return standing(server, Server_State.DOWN, { cause: DAMPENED, message }, { nowMs });
  }
  const message = "its agent registered";
  const { state, health } = standing(server, Server_State.UP, { cause: REGISTERED, message }, { nowMs });
  health.changeTime = timestampFromMs(nowMs);
  return { state, health };
}

/** When time alone may move the server next, by the wall clock; undefined when it will not. */
export function nextMoveMs({ state, health }: Server, nowMs: number): number | undefined {
  const times = [health?.restartDeadline, state === Server_State.DOWN ? health?.holdUntil : undefined]
    .filter((time) => time !== undefined)
    .map(timestampMs);
  if (state === Server_State.UP && health && health.failures > 0) times.push(quietMs(health));
  const later = times.filter((ms) => ms > nowMs);
  return later.length > 0 ? Math.min(...later) : undefined;
}

function judgeReturn(server: Server, tally: Tally, at: Circumstances): Standing {
  const untilMs = holdUntilMs(server);
  if (untilMs <= at.nowMs)
    return standing(server, Server_State.UP, { cause: ANSWERS, message: recoveredMessage(tally) }, at);
  const message = dampenedMessage(server.health?.failures ?? 1, untilMs);
  return standing(server, Server_State.DOWN, { cause: DAMPENED, message }, at);
}

function judgeFailing(server: Server, tally: Tally, at: Circumstances): Standing | undefined {
  const suspect = (why: Reason) => standing(server, Server_State.SUSPECT, why, at);
  const restartMs = server.health?.restartDeadline ? timestampMs(server.health.restartDeadline) : 0;
  if (restartMs > at.nowMs)
    return suspect({ cause: RESTARTING, message: restartingMessage(restartMs, tally) });
  // What another replica has found to be settled need not settle again here.
  const wasHeld = server.health?.cause === HELD_BY_BRAKE;
  const isCalled = tally.called.length >= tally.majority && (at.hasSettled || wasHeld);
  if (!isCalled) return suspect(voted(tally));
  if (at.brake.isEngaged) return suspect({ cause: HELD_BY_BRAKE, message: heldMessage(at.brake) });
  if (tally.failed.length < tally.majority) return suspect(voted(tally));
  if (at.mayDeclare && at.hasSettled) return declaredDown(server, tally, at);
  return wasHeld ? undefined : suspect(voted(tally));
}

function declaredDown(server: Server, tally: Tally, at: Circumstances): Standing {
  const { state, health } = standing(server, Server_State.DOWN, voted(tally), at);
  health.failures += 1;
  health.downTime = timestampFromMs(at.nowMs);
  health.holdUntil = timestampFromMs(at.nowMs + holdMs(health.failures));
  return { state, health };
}

interface Reason {
  readonly cause: Server_Health_Cause;
  readonly message: string;
}

function voted(tally: Tally): Reason {
  const votes = tally.failed.length >= tally.majority ? tally.failed : tally.failing;
  const refusals = votes.filter(({ kind }) => kind === "refuses").length;
  return { cause: 2 * refusals > votes.length ? REFUSALS : TIMEOUTS, message: failuresMessage(tally) };
}

function standing(
  server: Server | undefined,
  state: Server_State,
  { cause, message }: Reason,
  at: Pick<Circumstances, "nowMs">,
): Standing {
  const isQuietNow = server !== undefined && isQuiet(server, at);
  const health = isQuietNow ? calmed(server) : clone(Server_HealthSchema, server?.health ?? EMPTY);
  Object.assign(health, { cause, message });
  if (server?.state !== state || !health.changeTime) health.changeTime = timestampFromMs(at.nowMs);
  return { state, health };
}

const EMPTY = create(Server_HealthSchema);

function isQuiet({ state, health }: Server, { nowMs }: Pick<Circumstances, "nowMs">): boolean {
  return state === Server_State.UP && health !== undefined && health.failures > 0 && quietMs(health) <= nowMs;
}

/** When five minutes UP are full. */
function quietMs({ changeTime }: Server_Health): number {
  return (changeTime ? timestampMs(changeTime) : 0) + QUIET_MS;
}

function calmed(server: Server): Server_Health {
  const health = clone(Server_HealthSchema, server.health ?? EMPTY);
  health.failures = 0;
  delete health.holdUntil;
  return health;
}

function holdUntilMs({ health }: Server): number {
  return health?.holdUntil ? timestampMs(health.holdUntil) : 0;
}
