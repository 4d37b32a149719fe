import { type CallRecord, epochKey } from "./history.ts";

/** What the calls say about one epoch of a dispatcher. */
export interface EpochLife {
  readonly dispatcherId: string;
  readonly epoch: number;
  /** When it can have begun. */
  readonly invokedMs: number;
  /** The first FetchTasks under it; Infinity without one. */
  readonly firstFetchMs: number;
  /** Before this nothing can have ended it: its lease was good, and nobody asked for its end. */
  readonly endsAfterMs: number;
  /** By then somebody had been told that it is over; Infinity when nobody was. */
  readonly knownOverMs: number;
}

/** Timers and leases count in steps. */
const LEASE_SLACK_MS = 100;

const OVER_REASONS: ReadonlySet<string> = new Set(["EPOCH_EXPIRED", "DISPATCHER_REPLACED"]);

/** The lives of all epochs that anybody was told of, by `epochKey`. */
export function epochLives(calls: readonly CallRecord[]): ReadonlyMap<string, EpochLife> {
  const lives = new Map<string, { -readonly [K in keyof EpochLife]: EpochLife[K] } & { ttlMs: number }>();
  const byDispatcher = new Map<string, (CallRecord & { call: "register" })[]>();
  for (const call of calls) {
    if (call.call !== "register") continue;
    const { dispatcherId } = call.args;
    byDispatcher.set(dispatcherId, [...(byDispatcher.get(dispatcherId) ?? []), call]);
    if (call.outcome.kind !== "ok") continue;
    const { epoch, ttlMs } = call.outcome.result;
    lives.set(epochKey({ dispatcherId, epoch }), {
      ...{ dispatcherId, epoch, ttlMs, invokedMs: call.invokedMs, firstFetchMs: Number.POSITIVE_INFINITY },
      endsAfterMs: call.invokedMs + ttlMs - LEASE_SLACK_MS,
      knownOverMs: Number.POSITIVE_INFINITY,
    });
  }
  for (const call of calls) {
    if (!call.args || !("epoch" in call.args)) continue;
    const life = lives.get(epochKey(call.args));
    if (!life) continue;
    if (call.call === "fetch") life.firstFetchMs = Math.min(life.firstFetchMs, call.invokedMs);
    if (call.call === "heartbeat" && call.outcome.kind === "ok")
      life.endsAfterMs = Math.max(life.endsAfterMs, call.invokedMs + life.ttlMs - LEASE_SLACK_MS);
    const isOver =
      (call.outcome.kind === "failed" && OVER_REASONS.has(call.outcome.reason)) ||
      (call.call === "deregister" && call.outcome.kind === "ok");
    if (isOver) life.knownOverMs = Math.min(life.knownOverMs, call.returnedMs);
  }
  for (const life of lives.values()) {
    for (const call of byDispatcher.get(life.dispatcherId) ?? []) {
      const { outcome } = call;
      if (outcome.kind === "ok" && outcome.result.epoch === life.epoch) continue;
      if (call.returnedMs < life.invokedMs && outcome.kind !== "unknown") continue;
      // Whoever registers under the ID ends the epoch first, whether or not it gets one of its own.
      life.endsAfterMs = Math.min(life.endsAfterMs, call.invokedMs);
      if (outcome.kind === "ok" && outcome.result.epoch > life.epoch)
        life.knownOverMs = Math.min(life.knownOverMs, call.returnedMs);
    }
  }
  for (const call of calls) {
    if (call.call !== "deregister") continue;
    const life = lives.get(epochKey(call.args));
    if (life) life.endsAfterMs = Math.min(life.endsAfterMs, call.invokedMs);
  }
  return lives;
}
