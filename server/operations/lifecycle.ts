import { create, toBinary } from "@bufbuild/protobuf";
import { createBackoff } from "../../common/backoff.ts";
import { sleep } from "../../common/clock.ts";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import { RoundRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_FailureSchema, Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { encodeRecord } from "../dispatch/records.ts";
import { dueConferences, hasUnplacedClaims } from "../dispatch/round.ts";
import type { ConditionalWrite } from "../store/conditional-writes.ts";
import { type ConferenceEntry, isPlaced } from "../view/conference-entry.ts";
import { timeKeyAfter } from "../view/time-key.ts";
import type { Round } from "../view/view.ts";
import { moved } from "./conferences.ts";
import { catchUp, type OperationContext, writerOf } from "./context.ts";
import { reachNewest } from "./known-revision.ts";

/** Validity has a grace of minutes, so a second more or less does not matter. */
const SWEEP_INTERVAL_MS = 1_000;
const SWEEP_JITTER = 0.5;

/**
 * Moves on what only time moves: an active conference whose validity has passed is ENDED, one that was never placed
 * before its end is FAILED, and what has been over for the retention is deleted. Every replica does it; conditions on
 * revisions let each move happen once.
 */
export async function runLifecycle(context: OperationContext, signal: AbortSignal): Promise<void> {
  const backoff = createBackoff({ initialMs: SWEEP_INTERVAL_MS });
  while (!signal.aborted) {
    let waitMs = SWEEP_INTERVAL_MS;
    try {
      while (context.feed.fresh && (await sweep(context, signal))) {}
      backoff.reset();
    } catch (err) {
      if (signal.aborted) return;
      waitMs = backoff.nextMs();
      context.logger.warn({ err }, "sweep failed, trying again");
    }
    // Replicas do not sweep together: what one has moved the others need not.
    await sleep(context.clock, waitMs * (1 + SWEEP_JITTER * (Math.random() - 0.5)), signal).catch(() => {});
  }
}

/** Returns whether there may be more to move. */
async function sweep(context: OperationContext, signal: AbortSignal): Promise<boolean> {
  const { store, keys, logger } = context;
  const writes = timedMoves(context, store.maxOperations);
  if (writes.length === 0) return false;
  const result = await context.write("sweep", [], writes, signal);
  await catchUp(context, result.revision, signal);
  logger.debug({ conferences: writes.length, prefix: keys.prefix }, "moved on by time");
  return writes.length === store.maxOperations;
}

/** What time has moved on, at most `limit` at once. */
function timedMoves(context: OperationContext, limit: number): ConditionalWrite[] {
  const { view, keys, settings, clock } = context;
  const nowMs = clock.wallMs();
  const writer = writerOf(context);
  const writes: ConditionalWrite[] = [];
  const write = (entry: ConferenceEntry, value: Uint8Array | undefined) =>
    writes.push({ key: keys.conference(entry.id), modRevision: entry.modRevision, value });
  for (const [key, entry] of view.unfinished.entries()) {
    if (key > timeKeyAfter(nowMs) || writes.length === limit) break;
    // A claimed one may be committed any moment; its claim ends with its dispatcher.
    if (entry.status === "waiting") {
      const { record, conference } = moved(entry, Conference_State.FAILED, writer);
      conference.failure = create(Conference_FailureSchema, {
        message: missedReason(entry),
        failureTime: timestampFromMs(writer.nowMs),
      });
      write(entry, encodeRecord(record));
    } else if (isPlaced(entry) && validUntilMs(entry, settings.graceMs) <= nowMs) {
      write(entry, encodeRecord(moved(entry, Conference_State.ENDED, writer).record));
    }
  }
  for (const [key, entry] of view.finished.entries()) {
    if (key > timeKeyAfter(nowMs - settings.retentionMs) || writes.length === limit) break;
    write(entry, undefined);
  }
  return writes;
}

function validUntilMs({ conference: { dispatch }, endMs }: ConferenceEntry, graceMs: number): number {
  return dispatch?.validUntil ? timestampMs(dispatch.validUntil) : endMs + graceMs;
}

function missedReason({ conference }: ConferenceEntry): string {
  const last = conference.failure ? `; the last failure was: ${conference.failure.message}` : "";
  return `it was not placed before its scheduled end${last}`;
}

/**
 * Ends a round once nothing is left to take or to place, so that the next begins with clean accounts. One write a round;
 * when another replica or a new claim comes first, nothing is lost.
 */
export async function runRoundKeeper(context: OperationContext, signal: AbortSignal): Promise<void> {
  const { view, clock, feed, keys, logger } = context;
  const backoff = createBackoff();
  while (!signal.aborted) {
    const round = view.round;
    if (feed.fresh && round && round.members.length > 0 && isSettled(context, round)) {
      const { attemptId } = writerOf(context);
      const value = toBinary(RoundRecordSchema, create(RoundRecordSchema, { attemptId }));
      try {
        if (!(await staysSettled(context, round, signal))) continue;
        const result = await context.write(
          "round",
          [],
          [{ key: keys.round, modRevision: round.revision, value }],
          signal,
        );
        await catchUp(context, result.revision, signal);
        backoff.reset();
      } catch (err) {
        if (signal.aborted) return;
        logger.warn({ err }, "round not closed, trying again");
        await sleep(clock, backoff.nextMs(), signal).catch(() => {});
      }
      continue;
    }
    await view.changed.next(signal);
  }
}

/** Whether a round is still settled once all replicas have seen what this one has, and this one what they have. */
async function staysSettled(context: OperationContext, round: Round, signal: AbortSignal): Promise<boolean> {
  const { clock, settings } = context;
  if (settings.replicaLagMs === 0) return true;
  // At different times, so that one comes first and the others find it done.
  await sleep(clock, settings.replicaLagMs * (1 + Math.random()), signal);
  await reachNewest(context, signal);
  return isSettled(context, round);
}

function isSettled({ view, clock }: OperationContext, { revision, windowMs }: Round): boolean {
  if (view.round?.revision !== revision || hasUnplacedClaims(view)) return false;
  return dueConferences(view, clock.wallMs(), windowMs).next().done === true;
}
