import { createBackoff } from "../../common/backoff.ts";
import type { Clock } from "../../common/clock.ts";
import { compileDetection, isolationMs } from "../../common/detection.ts";
import type { Logger } from "../../common/logging.ts";
import type { HostedConferences } from "./hosted.ts";
import { createObservers } from "./observers.ts";
import { createWaker } from "./waker.ts";

/** What an agent does that is cut off, or told that its dispatches are void: end its conferences, or go on with them. */
export const ISOLATION_POLICIES = ["stop", "keep"] as const;
export type IsolationPolicy = (typeof ISOLATION_POLICIES)[number];

/**
 * Whether what is hosted here may still be served. An agent that nobody hears may have been moved away from without
 * knowing, so it may go on only for the time that the detection settings give (`isolation`):
 *
 * | state   | what happens                                             | becomes | and                                      |
 * | ------- | -------------------------------------------------------- | ------- | ---------------------------------------- |
 * | any     | nothing is hosted                                        | heard   | the time begins with the next conference |
 * | heard   | `heard`: an observer or the control plane holds it valid | heard   | the time begins anew                     |
 * | heard   | most observers did when they lost the control plane      | heard   | from when so many had said it, anew      |
 * | heard   | a third of the time passes, or an observer falls silent  | heard   | `ask`, again and again                   |
 * | heard   | `doubt`: a keepalive holds it void                       | doubted | `ask`; `DOUBT_MS` begin                  |
 * | doubted | `confirmed` by an answer to a call sent since            | heard   |                                          |
 * | doubted | `DOUBT_MS` pass                                          | cut off | as below                                 |
 * | not cut off | the time passes, or `voided` by the control plane    | cut off | as below                                 |
 * | cut off | policy `stop`                                            | heard   | once `endLife` has succeeded             |
 * | cut off | policy `keep`, and `heard` or `confirmed`                | heard   | everything went on meanwhile             |
 *
 * Under `keep` there is no doubt, and nothing is void but what the dispatch table has elsewhere or over.
 *
 * While the control plane is away nobody can move anything, and an outage of it must not become one of conferences: so they
 * go on for as long as a majority of the observers goes on probing (`observers.ts`). One that has lost the control plane is
 * not enough where there were three: it may be cut off together with this server.
 *
 * A keepalive alone does not end anything, since its sender may lag behind a server that is up again.
 *
 * What comes in after a pause of the whole process (SIGSTOP, a suspended machine) may be as old as the pause. So each
 * method looks at the clock first: what arrives after the time has passed revives nothing.
 */
export interface Isolation {
  /**
   * Whether participants may hear each other, new ones join, and conferences be started, at this very moment. False from
   * the moment the server is cut off until everything of before has ended; always true under `keep`.
   */
  mayServe(): boolean;
  /** Somebody held the dispatches of this server valid, at this instant of the monotonic clock. Default: now. */
  heard(atMs?: number): void;
  /**
   * A dispatcher that observes this life of the server holds its dispatches valid now, or, when it has lost the control
   * plane, held them valid when it did: then it counts only as one of a majority.
   */
  observed(observer: string, controlPlaneLost: boolean): void;
  /** An observer holds the dispatches of this server void. */
  doubt(cause: string): void;
  /** The control plane holds them valid, in answer to a call sent at this instant. */
  confirmed(sentMs: number): void;
  /** The control plane holds them void. */
  voided(cause: string): void;
  /** Takes on what the detection settings say. */
  setLimit(limitMs: number): void;
  /** For how long what is hosted may be served from now on if nobody is heard any more. */
  readonly leftMs: number;
  /** Keeps the time, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

export interface IsolationOptions {
  readonly policy: IsolationPolicy;
  readonly hosted: Pick<HostedConferences, "count">;
  /** Registers with the control plane soon, to hear what it says. */
  readonly ask: () => void;
  /** Ends all conferences at once and begins another life of the server. Tried again when it rejects. */
  readonly endLife: (signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
  readonly clock: Clock;
  /** How long to go on at first, where an earlier agent left less than the whole time. */
  readonly firstMs?: number;
}

/** Longer than the least time between two registrations and their deadline among healthy replicas. */
export const DOUBT_MS = 2_000;

/** The part of the time after which the control plane is asked: leaves two more chances. */
const ASK_AFTER = 1 / 3;

/** How often it is asked when nobody is heard, and when a single observer is not, which endangers nothing yet. */
const ASK_EVERY_MS = 500;
const ASK_OF_SILENCE_EVERY_MS = 5_000;

export function createIsolation(options: IsolationOptions): Isolation {
  type State =
    | { readonly kind: "heard" }
    | { readonly kind: "doubted"; readonly sinceMs: number; readonly cause: string }
    | { readonly kind: "cut off"; readonly cause: string };

  const { policy, hosted, ask, endLife, logger, clock, firstMs } = options;
  const waker = createWaker(clock);
  const observers = createObservers();
  let limitMs = isolationMs(compileDetection());
  let deadlineMs = clock.monotonicMs() + (firstMs ?? limitMs);
  let askedMs = Number.NEGATIVE_INFINITY;
  let state: State = { kind: "heard" };
  let isPlaneAway = false;

  function setState(next: State) {
    if (next.kind === "cut off") {
      const fields = { cause: next.cause, conferences: hosted.count, policy };
      logger.warn(
        fields,
        policy === "stop" ? "cut off; ending all conferences" : "cut off; conferences go on",
      );
    } else if (state.kind === "cut off") logger.info("no longer cut off");
    state = next;
    waker.wake();
  }

  /** The state as of this very moment; timers may come late. */
  function check(): State {
    const nowMs = clock.monotonicMs();
    if (state.kind === "cut off") return state;
    if (hosted.count === 0) {
      deadlineMs = nowMs + limitMs;
      if (state.kind === "doubted") setState({ kind: "heard" });
    } else if (state.kind === "doubted" && nowMs >= state.sinceMs + DOUBT_MS) {
      setState({ kind: "cut off", cause: state.cause });
    } else if (nowMs >= deadlineMs) {
      setState({ kind: "cut off", cause: "heard neither an observer nor the control plane" });
    }
    return state;
  }

  function heard(atMs: number) {
    if (check().kind === "cut off") {
      if (policy === "stop") return;
      setState({ kind: "heard" });
    }
    // An announced restart may have left more than the usual time; that ends with the first sign of life.
    deadlineMs = Math.max(Math.min(deadlineMs, clock.monotonicMs() + limitMs), atMs + limitMs);
  }

  function notePlane(isAway: boolean) {
    if (isAway === isPlaneAway) return;
    isPlaneAway = isAway;
    if (isAway) logger.warn("most observers have lost the control plane, and hold on; conferences go on");
    else logger.info("the control plane is there again");
  }

  function observed(observer: string, controlPlaneLost: boolean) {
    const nowMs = clock.monotonicMs();
    // It has to be asked before anything is taken in: after a pause of this process, everything comes too late at once.
    const isCutOff = check().kind === "cut off";
    if (!controlPlaneLost) {
      observers.seen(observer, nowMs);
      notePlane(false);
      return heard(nowMs);
    }
    const sinceMs = observers.lost(observer, nowMs);
    if (sinceMs === undefined || sinceMs < nowMs - limitMs) return;
    if (!isCutOff) notePlane(true);
    heard(sinceMs);
  }

  /** Whether the control plane has something to say that matters. */
  function hasToAsk(nowMs: number): boolean {
    if (hosted.count === 0) return false;
    if (nowMs >= deadlineMs - limitMs * (1 - ASK_AFTER)) return nowMs >= askedMs + ASK_EVERY_MS;
    return nowMs >= askedMs + ASK_OF_SILENCE_EVERY_MS && observers.anySilent(nowMs, limitMs);
  }

  function doubt(cause: string) {
    if (policy === "keep" || check().kind !== "heard" || hosted.count === 0) return;
    setState({ kind: "doubted", sinceMs: clock.monotonicMs(), cause });
    ask();
  }

  /** When to look again, on the monotonic clock. */
  function nextLookMs(nowMs: number): number {
    const tickMs = Math.min(Math.max(limitMs / 10, 20), 500);
    const endMs = state.kind === "doubted" ? Math.min(deadlineMs, state.sinceMs + DOUBT_MS) : deadlineMs;
    return state.kind === "cut off" ? nowMs + tickMs : Math.min(nowMs + tickMs, Math.max(endMs, nowMs));
  }

  async function endLifeSurely(signal: AbortSignal) {
    const backoff = createBackoff({ initialMs: 100, maxMs: 1_000 });
    while (!signal.aborted && state.kind === "cut off") {
      try {
        await endLife(signal);
        observers.clear();
        isPlaneAway = false;
        deadlineMs = clock.monotonicMs() + limitMs;
        setState({ kind: "heard" });
      } catch (err) {
        if (signal.aborted) return;
        logger.error({ err }, "conferences cannot be ended; trying again");
        await waker.wait(backoff.nextMs(), signal).catch(() => {});
      }
    }
  }

  return {
    mayServe: () => policy === "keep" || check().kind !== "cut off",
    heard: (atMs = clock.monotonicMs()) => heard(atMs),
    observed,
    doubt,
    confirmed(sentMs) {
      observers.confirmed(sentMs, limitMs);
      notePlane(false);
      heard(sentMs);
      if (state.kind === "doubted" && sentMs >= state.sinceMs) setState({ kind: "heard" });
    },
    voided(cause) {
      if (policy === "keep" || hosted.count === 0) return;
      if (check().kind !== "cut off") setState({ kind: "cut off", cause });
    },
    setLimit(nextMs) {
      if (nextMs === limitMs) return;
      deadlineMs += nextMs - limitMs;
      limitMs = nextMs;
      waker.wake();
    },
    get leftMs() {
      if (check().kind === "cut off") return policy === "keep" ? limitMs : 0;
      return Math.max(0, deadlineMs - clock.monotonicMs());
    },
    async run(signal) {
      while (!signal.aborted) {
        if (check().kind === "cut off" && policy === "stop") await endLifeSurely(signal);
        const nowMs = clock.monotonicMs();
        if (hasToAsk(nowMs)) {
          askedMs = nowMs;
          ask();
        }
        await waker.wait(nextLookMs(nowMs) - nowMs, signal).catch(() => {});
      }
    },
  };
}
