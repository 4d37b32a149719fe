import { clone, create, toBinary } from "@bufbuild/protobuf";
import { createBackoff } from "../../common/backoff.ts";
import { sleep } from "../../common/clock.ts";
import { ServerRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Server_Health_Cause, Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import { assess, type Memory, type Verdict } from "../health/assess.ts";
import { createObservers } from "../health/votes.ts";
import type { ConditionalWrite, Fence } from "../store/conditional-writes.ts";
import { encodeBrake } from "./brake.ts";
import { catchUp, type OperationContext, writerOf } from "./context.ts";

/** Judges conference servers by what their observers report, and writes what follows. */
export interface Verdicts {
  /**
   * Judges all servers by the view as it is and writes what follows from it, in the view when it returns.
   * @returns in how many milliseconds to judge again though the view does not change; undefined for never
   */
  judgeOnce(signal: AbortSignal): Promise<number | undefined>;
}

/** Told of every verdict that this replica wrote. */
export type CountVerdict = (state: Server_State, cause: Server_Health_Cause) => void;

/** Votes come in bursts: with one look at all of them, more fail together, and nothing is judged a thousand times a second. */
const PAUSE_MS = 20;

/** A judgement that takes long, with thousands of servers failing, is followed by a pause that leaves time for the rest. */
const PAUSE_PER_MS = 4;
const LONGEST_PAUSE_MS = 200;

/** The fences of a verdict must fit into a transaction, however many observers there are. */
const MAX_FENCED_VOTES = 20;

export function createVerdicts(context: OperationContext, count: CountVerdict): Verdicts {
  const { view, feed, clock, settings, store } = context;
  const observers = createObservers(settings.detection);
  let memory: Memory = new Map();

  async function write(verdicts: readonly Verdict[], fences: readonly Fence[], signal: AbortSignal) {
    if (verdicts.length === 0) return true;
    const writes = verdicts.map((verdict) => writeOf(context, verdict));
    const result = await context.write("verdict", fences, writes, signal);
    await catchUp(context, result.revision, signal);
    if (result.fenced) return false;
    const written = verdicts.filter((_, index) => result.written.has(writes[index]?.key ?? ""));
    for (const verdict of written) {
      count(verdict.standing.state, verdict.standing.health.cause);
      log(context, verdict);
    }
    return written.length === verdicts.length;
  }

  return {
    async judgeOnce(signal) {
      if (feed.freshSinceMs === undefined) {
        // What was seen before the view stood still says nothing of what comes after.
        memory = new Map();
        return undefined;
      }
      const now = {
        wallMs: Math.round(clock.wallMs()),
        monotonicMs: clock.monotonicMs(),
        declareMs: feed.freshSinceMs + settings.detection.graceMs,
      };
      const { verdicts, nextInMs, ...rest } = assess(view, observers, settings.detection, now, memory);
      memory = rest.memory;
      const isDown = ({ entry, standing }: Verdict) =>
        standing.state === Server_State.DOWN && entry.server.state !== Server_State.DOWN;
      const down = fencedBatch(context, verdicts.filter(isDown));
      const others = verdicts.filter((verdict) => !isDown(verdict)).slice(0, store.maxOperations);
      const isDownWritten = await write(down.verdicts, down.fences, signal);
      const areOthersWritten = await write(others, [], signal);
      const isDone = down.verdicts.length + others.length === verdicts.length;
      return isDone && isDownWritten && areOthersWritten ? nextInMs : 0;
    },
  };
}

/**
 * Every replica judges: the first to write a verdict comes first, and the others find it written.
 */
export async function runVerdicts(
  context: OperationContext,
  verdicts: Verdicts,
  signal: AbortSignal,
): Promise<void> {
  const { view, clock, logger } = context;
  const backoff = createBackoff();
  while (!signal.aborted) {
    const beganMs = clock.monotonicMs();
    let pauseMs: number;
    try {
      const nextInMs = await verdicts.judgeOnce(signal);
      backoff.reset();
      const judgedMs = clock.monotonicMs();
      if (nextInMs !== 0) await view.changed.next(signal, nextInMs);
      const restMs = Math.min(PAUSE_PER_MS * (judgedMs - beganMs), LONGEST_PAUSE_MS);
      pauseMs = judgedMs + Math.max(PAUSE_MS, restMs) - clock.monotonicMs();
    } catch (err) {
      if (signal.aborted) return;
      pauseMs = backoff.nextMs();
      logger.warn({ err }, "verdicts not written, trying again");
    }
    if (pauseMs > 0) await sleep(clock, pauseMs, signal).catch(() => {});
  }
}

/**
 * As many verdicts of DOWN as fit into one transaction, and its fences: the votes that they rest on still stand, and no
 * other replica has declared anything DOWN that this one has not counted. So a replica that slept, or whose view lags,
 * can neither act on votes that were taken back, nor bring down with others more than the brake allows.
 */
function fencedBatch(
  context: OperationContext,
  down: readonly Verdict[],
): { readonly verdicts: readonly Verdict[]; readonly fences: readonly Fence[] } {
  const { keys, view, store } = context;
  const [first] = down;
  if (!first) return { verdicts: [], fences: [] };
  const { releasedUntilMs, modRevision } = view.brake;
  const value = encodeBrake(releasedUntilMs, writerOf(context).attemptId);
  const fences = new Map<string, Fence>([[keys.brake, { key: keys.brake, modRevision, value }]]);
  const verdicts: Verdict[] = [];
  for (const verdict of down) {
    const own: Fence[] = verdict.votes.slice(0, MAX_FENCED_VOTES).flatMap((vote) => [
      {
        key: keys.observation(verdict.entry.server.serverId, vote.dispatcherId),
        modRevision: vote.modRevision,
      },
      { key: keys.observer(vote.dispatcherId), modRevision: vote.withdrawalRevision },
    ]);
    const size = new Set([...fences.keys(), ...own.map(({ key }) => key)]).size + verdicts.length + 1;
    if (verdicts.length > 0 && size > store.maxOperations) break;
    for (const fence of own) fences.set(fence.key, fence);
    verdicts.push(verdict);
  }
  return { verdicts, fences: [...fences.values()] };
}

function writeOf(context: OperationContext, { entry, standing }: Verdict): ConditionalWrite {
  const server = Object.assign(clone(ServerSchema, entry.server), standing);
  const { attemptId } = writerOf(context);
  return {
    key: context.keys.server(server.serverId),
    modRevision: entry.modRevision,
    value: toBinary(ServerRecordSchema, create(ServerRecordSchema, { server, attemptId })),
  };
}

function log({ logger }: OperationContext, { entry: { server }, standing: { state, health } }: Verdict) {
  const fields = {
    server: server.serverId,
    state: Server_State[state],
    cause: Server_Health_Cause[health.cause],
    why: health.message,
  };
  if (state === server.state) logger.debug(fields, "conference server is in its state for another reason");
  else if (state === Server_State.DOWN) logger.warn(fields, "conference server declared down");
  else logger.info(fields, "conference server changed its state");
}
