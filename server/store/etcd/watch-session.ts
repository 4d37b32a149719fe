import type { IDuplexStream, IWatchCreateRequest, IWatchRequest, IWatchResponse } from "etcd3";
import type { Clock } from "../../../common/clock.ts";
import { StoreError, type WatchBatch } from "../store.ts";
import type { EtcdConnection, OpenStream } from "./connection.ts";
import { CallEnded } from "./errors.ts";
import { prefixRange } from "./messages.ts";
import type { WatchAssembler } from "./watch-assembler.ts";
import { answersInLine } from "./watch-progress.ts";
import { startWatchStream } from "./watch-stream.ts";

/**
 * Silence is counted in ticks of a timer, not by a clock, so that a process that was paused or kept busy does not take
 * its own absence for the silence of a member whose answers wait to be read.
 */
const TICK_MS = 500;

/** After this much silence a sign of life is asked for, each time anew. */
const TICKS_TO_ASK = 2;

/** After this much silence the member is left: soon enough for another to serve before the watch counts as lost. */
const TICKS_TO_LEAVE = 6;

const STATUS_TIMEOUT_MS = 2_000;

export type OpenWatch = OpenStream<IDuplexStream<IWatchRequest, IWatchResponse>>;

export interface WatchSession {
  readonly connection: EtcdConnection;
  readonly clock: Clock;
  readonly opened: OpenWatch;
  readonly prefix: string;
  /** Says where to start; keeps what has been given out beyond this session. */
  readonly assembler: WatchAssembler;
  /** Whether the consumer waits for its first batch, which must not wait for a change. */
  readonly first: boolean;
  /** Told of every sign of life. */
  readonly onServed: () => void;
}

/**
 * Yields the batches of one stream until it breaks.
 * @throws {StoreError} `compacted`, or what broke it, after the connection was told
 */
export async function* watchSession(session: WatchSession, signal: AbortSignal): AsyncGenerator<WatchBatch> {
  const { connection, clock, opened, prefix, assembler, onServed } = session;
  let { first } = session;
  let watcher: { id: string; inLine: () => boolean } | undefined;
  let quietTicks = 0;
  assembler.restart();
  using stream = startWatchStream(opened.stream, creation(prefix, assembler.next), signal);

  const read = () => {
    const reading = stream.read();
    // It is still waiting when the consumer leaves.
    reading.catch(() => {});
    return reading;
  };

  function receive(response: IWatchResponse): WatchBatch | undefined {
    const { header, compact_revision, canceled, cancel_reason, created, watch_id, events } = response;
    const compactRevision = BigInt(compact_revision);
    if (compactRevision > 0n)
      throw new StoreError("compacted", `revision ${assembler.next} is compacted`, { compactRevision });
    if (canceled) throw opened.failed(cancel_reason);
    const revision = BigInt(header.revision);
    if (created) {
      watcher = { id: watch_id, inLine: judgeAnswers(connection, opened.endpoint, header.member_id) };
      // Otherwise the past is on its way: events, or that they are compacted.
      return first && revision < assembler.next ? { revision: assembler.next - 1n, events: [] } : undefined;
    }
    if (events.length > 0) return assembler.take(response);
    const certain = watch_id === watcher?.id || watcher?.inLine();
    return certain ? assembler.progress(revision) : undefined;
  }

  function tick(): WatchBatch | undefined {
    quietTicks += 1;
    if (quietTicks >= TICKS_TO_LEAVE)
      throw new CallEnded("deadline", `no sign of life for ${TICKS_TO_LEAVE * TICK_MS} ms`);
    if (quietTicks % TICKS_TO_ASK === 0) stream.requestProgress();
    return first && watcher ? { revision: assembler.next - 1n, events: [] } : undefined;
  }

  try {
    for (let reading = read(); ; ) {
      const response = await withinTick(reading, clock);
      let batch: WatchBatch | undefined;
      if (response === undefined) {
        batch = tick();
      } else {
        quietTicks = 0;
        opened.answered();
        onServed();
        batch = receive(response);
      }
      if (batch) {
        first = false;
        yield batch;
        onServed();
      }
      if (response !== undefined) reading = read();
    }
  } catch (err) {
    if (err instanceof StoreError || signal.aborted) throw err;
    throw opened.failed(err);
  }
}

/** Resolves with undefined when a tick passes first. */
async function withinTick<T>(promise: Promise<T>, clock: Clock): Promise<T | undefined> {
  const tick = Promise.withResolvers<undefined>();
  const timer = clock.setTimer(() => tick.resolve(undefined), TICK_MS);
  try {
    return await Promise.race([promise, tick.promise]);
  } finally {
    timer.clear();
  }
}

/** Finds out whether the member's answers tell of progress; until that is known they do not. */
function judgeAnswers(connection: EtcdConnection, endpoint: string, memberId: string): () => boolean {
  let inLine = false;
  connection
    .unaryAt(endpoint, STATUS_TIMEOUT_MS, (stubs) => stubs.maintenance.status())
    .then(
      // Behind one address there may be several members.
      ({ version, header }) => {
        inLine = header.member_id === memberId && answersInLine(version);
      },
      () => {},
    );
  return () => inLine;
}

function creation(prefix: string, fromRevision: bigint): IWatchCreateRequest {
  return {
    ...prefixRange(prefix),
    start_revision: String(fromRevision),
    progress_notify: true,
    fragment: true,
  };
}
