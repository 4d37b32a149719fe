import type { DetectionSettings } from "../../../common/detection.ts";
import { Observation_Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Reach } from "../candidates.ts";

/** What one probe of a server came to. */
export interface ProbeResult {
  readonly kind: ProbeKind;
  /** What it said, for people; empty when it answered. */
  readonly detail: string;
}

/**
 * | kind      | what happened                                                                       | explicit |
 * | --------- | ----------------------------------------------------------------------------------- | -------- |
 * | ok        | the server answered, in whichever incarnation: the table follows by itself           |          |
 * | refused   | its machine refuses the connection: nothing listens there                            | yes      |
 * | unhealthy | its agent says that the conference server is not healthy                             | yes      |
 * | timeout   | no answer in time, or no way there                                                   | no       |
 * | error     | something answered that is not this server, or could not say how it is               | no       |
 */
export type ProbeKind = "ok" | "refused" | "unhealthy" | "timeout" | "error";

/** What an observer says of a server. */
export interface Vote {
  readonly verdict: Observation_Verdict;
  /** Of FAILED the explicit failures in a row, of TIMEOUT all failures, of OK the answers. */
  readonly inARow: number;
  readonly detail: string;
}

/** One server as one observer has seen it. Immutable: every event gives the next state. */
export interface ObserverState {
  /** Until when a failure counts only when the server has been heard. */
  readonly graceUntilMs: number;
  /** Whether it has answered since the grace began. */
  readonly heard: boolean;
  /** In a row. */
  readonly answers: number;
  /** Explicit failures in a row. */
  readonly refusals: number;
  /** Failures of any kind in a row. */
  readonly failures: number;
  /** The last result; undefined before the first. */
  readonly last: ProbeKind | undefined;
  /** Undefined while there is nothing to say: neither enough answers nor a failure that counts. */
  readonly vote: Vote | undefined;
}

type Limits = Pick<DetectionSettings, "refusals" | "timeouts" | "successes" | "graceMs">;

/** The contract's limit of `in_a_row`; counting goes no further. */
const MOST_IN_A_ROW = 1_000;

/** An observation that begins now, with a grace of `graceMs`. */
export function beginObservation(nowMs: number, { graceMs }: Pick<Limits, "graceMs">): ObserverState {
  return {
    graceUntilMs: nowMs + graceMs,
    heard: false,
    answers: 0,
    refusals: 0,
    failures: 0,
    last: undefined,
    vote: undefined,
  };
}

/**
 * The state after a probe. The votes of one server:
 *
 * | from                     | to                  | when                                                            |
 * | ------------------------ | ------------------- | --------------------------------------------------------------- |
 * | none, OK                 | FAILED 1            | an explicit failure that counts; doubt: no new work goes there  |
 * | none, OK                 | TIMEOUT 1           | another failure that counts; doubt as well                      |
 * | any but FAILED `refusals`| FAILED `refusals`   | so many explicit failures in a row: called failed               |
 * | none, OK, doubt          | TIMEOUT `timeouts`  | so many failures of any kind in a row: called failed            |
 * | any but OK               | OK `successes`      | so many answers in a row: well                                  |
 *
 * In between nothing changes: a doubt stays the doubt it was, whatever the next failure is; who is called failed stays so
 * over single answers, and a single answer takes no doubt back. So every change costs a run of results, and a server that
 * answers now and then does not flap.
 *
 * A failure does not count in the grace unless the server has been heard since that began: an observer that has just begun,
 * or has just been stalled itself, must first know that it can hear.
 */
export function afterProbe(
  state: ObserverState,
  { kind, detail }: ProbeResult,
  nowMs: number,
  limits: Limits,
): ObserverState {
  if (kind === "ok") {
    const answers = Math.min(state.answers + 1, MOST_IN_A_ROW);
    const well = answers >= limits.successes && state.vote?.verdict !== Observation_Verdict.OK;
    const vote = well ? { verdict: Observation_Verdict.OK, inARow: answers, detail: "" } : state.vote;
    return { ...state, heard: true, answers, refusals: 0, failures: 0, last: kind, vote };
  }
  if (inGrace(state, nowMs)) return { ...state, answers: 0, last: kind };
  const failures = Math.min(state.failures + 1, MOST_IN_A_ROW);
  const refusals = isExplicit(kind) ? Math.min(state.refusals + 1, MOST_IN_A_ROW) : 0;
  const vote = raised(state.vote, { refusals, failures, kind, detail }, limits);
  return { ...state, answers: 0, refusals, failures, last: kind, vote };
}

/**
 * The state after the observer itself was stalled: what failed meanwhile may have been its own fault. The grace is as long as
 * the stall was, at most `graceMs`, so that an observer with many short ones still comes to a verdict.
 */
export function afterStall(
  state: ObserverState,
  nowMs: number,
  stallMs: number,
  { graceMs }: Pick<Limits, "graceMs">,
): ObserverState {
  const graceUntilMs = Math.max(state.graceUntilMs, nowMs + Math.min(stallMs, graceMs));
  return { ...state, graceUntilMs, heard: false, refusals: 0, failures: 0 };
}

/** The state when another incarnation of the server has begun: nothing that was seen says anything about it. */
export function afterNewIncarnation(state: ObserverState): ObserverState {
  return { ...state, answers: 0, refusals: 0, failures: 0, last: undefined, vote: undefined };
}

/**
 * How soon the next probe follows: after `probeRetryMs` while a few results more would change the vote, else after
 * `probeIntervalMs`. So a verdict comes fast either way, and a server that has long been dead costs no more than a live one.
 */
export function nextProbe(state: ObserverState, nowMs: number, limits: Limits): "retry" | "interval" {
  if (state.last === "ok") {
    const wavering = isFailing(state.vote) && state.answers < limits.successes;
    return wavering ? "retry" : "interval";
  }
  return inGrace(state, nowMs) || isCalledFailed(state.vote, limits) ? "interval" : "retry";
}

/**
 * Whether to place anything there: not where it was refused or is called failed, nor before it has answered often enough
 * since; better not where it was late.
 */
export function reachOf({ last, vote }: ObserverState, limits: Limits): Reach {
  const refused = vote?.verdict === Observation_Verdict.FAILED || (last !== undefined && isExplicit(last));
  if (refused || isCalledFailed(vote, limits)) return "fails";
  return isFailing(vote) || last === "timeout" || last === "error" ? "doubt" : "answers";
}

/** Whether this vote counts towards DOWN. */
export function isCalledFailed(vote: Vote | undefined, { refusals, timeouts }: Limits): boolean {
  if (vote?.verdict === Observation_Verdict.FAILED) return vote.inARow >= refusals;
  return vote?.verdict === Observation_Verdict.TIMEOUT && vote.inARow >= timeouts;
}

export function isFailing(vote: Vote | undefined): boolean {
  return vote?.verdict === Observation_Verdict.FAILED || vote?.verdict === Observation_Verdict.TIMEOUT;
}

function inGrace({ graceUntilMs, heard }: ObserverState, nowMs: number): boolean {
  return !heard && nowMs < graceUntilMs;
}

function isExplicit(kind: ProbeKind): boolean {
  return kind === "refused" || kind === "unhealthy";
}

interface Run {
  readonly refusals: number;
  readonly failures: number;
  readonly kind: ProbeKind;
  readonly detail: string;
}

function raised(vote: Vote | undefined, { refusals, failures, kind, detail }: Run, limits: Limits): Vote {
  const refusedEnough = vote?.verdict === Observation_Verdict.FAILED && isCalledFailed(vote, limits);
  if (refusals >= limits.refusals && !refusedEnough) {
    return { verdict: Observation_Verdict.FAILED, inARow: refusals, detail };
  }
  if (failures >= limits.timeouts && !isCalledFailed(vote, limits)) {
    return { verdict: Observation_Verdict.TIMEOUT, inARow: failures, detail };
  }
  if (vote && isFailing(vote)) return vote;
  const verdict = isExplicit(kind) ? Observation_Verdict.FAILED : Observation_Verdict.TIMEOUT;
  return { verdict, inARow: 1, detail };
}
