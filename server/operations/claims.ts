import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { sleep } from "../../common/clock.ts";
import { statusError } from "../../common/rpc/status.ts";
import { RoundRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import type { Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { conferencesToMove, drainRoom, failoverRoom, moveReasonOf } from "../dispatch/moves.ts";
import { claimRecord, encodeRecord, toTask } from "../dispatch/records.ts";
import {
  dueConferences,
  isRoundCurrent,
  owedShares,
  roundAccounts,
  takeoverConferences,
} from "../dispatch/round.ts";
import { handOf } from "../dispatch/share.ts";
import { byUrgency } from "../dispatch/urgency.ts";
import { LIMITS } from "../settings.ts";
import { type ConferenceEntry, isHeld, isLost } from "../view/conference-entry.ts";
import { timeKeyAfter } from "../view/time-key.ts";
import { catchUp, contention, type OperationContext, requireFresh, writerOf } from "./context.ts";
import { reachNewest } from "./known-revision.ts";
import { requireEpoch } from "./registrations.ts";

export interface FetchRequest {
  readonly dispatcherId: string;
  readonly epoch: bigint;
  readonly windowMs: number;
  readonly maxTasks: number;
  readonly waitMs: number;
}

/** Hands out tasks; one for the whole replica, since it knows which fetches are under way. */
export interface Claims {
  /**
   * First what the epoch holds and has not placed, then what is left of its share, those that have lost their server
   * first, then what it is to move away from servers that are drained; claimed batch by batch as the caller takes it.
   * Waits up to `waitMs` when there is nothing. Each array is one message.
   */
  fetch(request: FetchRequest, signal: AbortSignal): AsyncGenerator<Task[]>;
}

/** What to claim. */
interface Plan {
  /** In the order in which to claim them. */
  readonly conferences: readonly ConferenceEntry[];
  /** Where they stand: they wait to be placed, or are to be moved from where they are. */
  readonly from: "waiting" | "active";
  /** The round in which they count; 0n for none. */
  readonly round: bigint;
}

/** Changes come in bursts; looking again once for all that come within this time costs a dispatcher little latency. */
const COALESCE_MS = 10;

/** How often a waiting fetch looks for conferences that others have left past their deadline. */
const TAKEOVER_CHECK_MS = 250;

/** Rounds of conflicts with other replicas before the call gives up. */
const MAX_TRIES = 10;

export function createClaims(context: OperationContext): Claims {
  const { view, clock, settings, keys, store, logger } = context;
  const active = new Map<string, AbortController>();

  return {
    async *fetch(request, callerSignal) {
      requireFresh(context);
      // What the dispatcher claimed through another replica counts too, or it would get more than its share.
      await reachNewest(context, callerSignal);
      await requireEpoch(context, request.dispatcherId, request.epoch, callerSignal);
      active.get(request.dispatcherId)?.abort(superseded(request.dispatcherId));
      const own = new AbortController();
      active.set(request.dispatcherId, own);
      try {
        yield* run(request, AbortSignal.any([callerSignal, own.signal]));
      } catch (err) {
        // Whatever a write under way makes of the abort, the caller is to learn why.
        throw own.signal.aborted ? own.signal.reason : err;
      } finally {
        if (active.get(request.dispatcherId) === own) active.delete(request.dispatcherId);
      }
    },
  };

  async function* run(request: FetchRequest, signal: AbortSignal): AsyncGenerator<Task[]> {
    const deadlineMs = clock.monotonicMs() + request.waitMs;
    const sentEpochs = new Map<string, bigint>();
    let sent = 0;
    function* send(entries: readonly ConferenceEntry[]) {
      sent += entries.length;
      for (const { id, claim } of entries) sentEpochs.set(id, claim?.dispatchEpoch ?? 0n);
      yield* messages(entries);
    }
    for (let conflicts = 0; sent < request.maxTasks && conflicts < MAX_TRIES; ) {
      signal.throwIfAborted();
      requireFresh(context);
      await requireEpoch(context, request.dispatcherId, request.epoch, signal);
      // Looked at anew each time: a claim whose outcome was unknown, to this call or to the one before, may yet appear.
      const held = [...view.claimsOf(request.dispatcherId)]
        .filter(
          ({ id, claim }) =>
            claim?.dispatcherEpoch === request.epoch && sentEpochs.get(id) !== claim.dispatchEpoch,
        )
        .sort(byUrgency(clock.wallMs()))
        .slice(0, request.maxTasks - sent);
      if (held.length > 0) {
        yield* send(held);
        continue;
      }
      const plan = await planClaims(request, signal);
      if (plan.conferences.length === 0) {
        const leftMs = deadlineMs - clock.monotonicMs();
        if (sent > 0 || leftMs <= 0) return;
        await changeOrTimer(Math.min(leftMs, nextLookMs(request)), signal);
        continue;
      }
      let claimedOfPlan = 0;
      const wanted = plan.conferences.slice(0, request.maxTasks - sent);
      // One compare for the dispatcher, one for the round, one for each conference.
      for (const batch of chunks(wanted, store.maxOperations - 2)) {
        const claimed = await claimBatch(request, plan, batch, signal);
        if (!claimed) break;
        claimedOfPlan += claimed.length;
        yield* send(claimed);
      }
      if (claimedOfPlan < wanted.length) conflicts += 1;
    }
  }

  /** What to claim now: what is left of the share, or else what others have left too long. */
  async function planClaims({ dispatcherId, windowMs }: FetchRequest, signal: AbortSignal): Promise<Plan> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const nowMs = clock.wallMs();
      const accounts = roundAccounts(view, nowMs, windowMs);
      if (accounts.untaken === 0) return planMoves(dispatcherId, nowMs);
      if (!isRoundCurrent(view)) {
        await openRound(windowMs, signal);
        continue;
      }
      const rank = accounts.members.findIndex((member) => member.dispatcherId === dispatcherId);
      const owed = owedShares(accounts);
      const due = [...dueConferences(view, nowMs, windowMs)].sort(byUrgency(nowMs));
      const { dealt, rest } = handOf(rank, due, owed, ({ id }) => view.deal.rankOf(id));
      // Replicas may see what is dealt out anew in different orders, until all have seen the same.
      const settledMs = clock.monotonicMs() - settings.replicaLagMs;
      const mine = withinBudget(
        [...dealt, ...rest.filter(({ waitingSinceMs }) => waitingSinceMs <= settledMs)].sort(
          byUrgency(nowMs),
        ),
      );
      if (mine.length > 0) return { from: "waiting", round: view.round?.revision ?? 0n, conferences: mine };
      const overdueSinceMs = clock.monotonicMs() - settings.takeoverMs;
      const left = withinBudget(
        takeoverConferences(
          rank,
          accounts,
          due,
          ({ waitingSinceMs, startMs, record }) =>
            waitingSinceMs <= overdueSinceMs &&
            Math.max(startMs - windowMs, Number(record.retryTimeMs)) <= nowMs - settings.takeoverMs,
        ),
      );
      if (left.length === 0) return planMoves(dispatcherId, nowMs);
      logger.debug({ dispatcher: dispatcherId, conferences: left.length }, "taking over what others left");
      return { from: "waiting", round: 0n, conferences: left };
    }
    throw contention("the round");
  }

  /** Leaves out what would be one move too many at a time. */
  function withinBudget(entries: readonly ConferenceEntry[]): ConferenceEntry[] {
    let room = failoverRoom(view, settings.moveBudget);
    return entries.filter((entry) => !isLost(entry) || room-- > 0);
  }

  function planMoves(dispatcherId: string, nowMs: number): Plan {
    const room = drainRoom(view, settings.moveBudget);
    const conferences = room > 0 ? conferencesToMove(view, dispatcherId, nowMs).slice(0, room) : [];
    return { from: "active", round: 0n, conferences };
  }

  async function openRound(windowMs: number, signal: AbortSignal) {
    const members = [...view.dispatchers.values()].map(({ dispatcher: { dispatcherId }, epoch }) => ({
      dispatcherId,
      epoch,
    }));
    const value = toBinary(
      RoundRecordSchema,
      create(RoundRecordSchema, {
        members,
        windowMs: BigInt(Math.ceil(windowMs)),
        attemptId: writerOf(context).attemptId,
      }),
    );
    const modRevision = view.round?.revision ?? 0n;
    const result = await context.write("round", [], [{ key: keys.round, modRevision, value }], signal);
    await catchUp(context, result.revision, signal);
    if (!result.fenced && result.written.size > 0) {
      logger.debug({ round: String(result.revision), dispatchers: members.length }, "round opened");
    }
  }

  /** What was claimed; undefined when nothing was, because the round is over. */
  async function claimBatch(
    { dispatcherId, epoch }: FetchRequest,
    { round, from }: Plan,
    batch: readonly ConferenceEntry[],
    signal: AbortSignal,
  ) {
    signal.throwIfAborted();
    const writer = writerOf(context);
    // What was claimed, cancelled or changed since the plan was made would only fail its condition.
    const open = withinBudget(
      batch.filter((entry) => view.conferences.get(entry.id) === entry && entry.status === from),
    );
    if (open.length === 0) return undefined;
    const result = await context.write(
      "claim",
      [
        { key: keys.dispatcher(dispatcherId), modRevision: epoch },
        // A share counts in the round it was computed for, and in no later one.
        ...(round > 0n ? [{ key: keys.round, modRevision: round }] : []),
      ],
      open.map((entry) => ({
        key: keys.conference(entry.id),
        modRevision: entry.modRevision,
        value: encodeRecord(
          claimRecord(entry, { dispatcherId, epoch, round, moveReason: moveReasonOf(view, entry) }, writer),
        ),
      })),
      signal,
    );
    await catchUp(context, result.revision, signal);
    if (result.fenced) {
      await requireEpoch(context, dispatcherId, epoch, signal);
      return undefined;
    }
    return open
      .filter((entry) => result.written.has(keys.conference(entry.id)))
      .map((entry) => view.conferences.get(entry.id))
      .filter((entry) => entry !== undefined)
      .filter((entry) => isHeld(entry) && entry.claim?.dispatcherEpoch === epoch);
  }

  function* messages(entries: readonly ConferenceEntry[]) {
    for (const part of chunks(entries, LIMITS.tasksPerMessage)) {
      yield part.map((entry) => toTask(entry, settings.graceMs));
    }
  }

  /** When time alone may bring something to claim. */
  function nextLookMs({ windowMs }: FetchRequest) {
    const nowMs = clock.wallMs();
    const next = view.waiting.nextHigherPair(timeKeyAfter(nowMs + windowMs))?.[1];
    const untilDueMs = next ? next.startMs - windowMs - nowMs : Number.POSITIVE_INFINITY;
    const first = view.waiting.minKey();
    const someDue =
      (first !== undefined && first <= timeKeyAfter(nowMs + windowMs)) || view.draining.size > 0;
    return Math.max(1, someDue ? Math.min(untilDueMs, TAKEOVER_CHECK_MS) : untilDueMs);
  }

  async function changeOrTimer(waitMs: number, signal: AbortSignal) {
    if ((await view.changed.next(signal, waitMs)) !== "pulse") return;
    await sleep(clock, Math.min(COALESCE_MS, waitMs), signal);
  }
}

function* chunks<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let from = 0; from < items.length; from += size) yield items.slice(from, from + size);
}

function superseded(dispatcherId: string) {
  return statusError(
    Code.Aborted,
    ErrorReason.CONTENTION,
    `a newer FetchTasks of dispatcher ${dispatcherId} took the place of this one; have one at a time`,
  );
}
