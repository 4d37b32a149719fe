import type { WatchUpdate } from "../../../client/watch.ts";
import { soon } from "./patience.ts";

/** An event and when it was told, on the monotonic clock of the test. */
export interface Told<E> {
  readonly event: E;
  readonly atMs: number;
}

/** Everything a watch has told since it began. */
export interface WatchHistory<E> extends AsyncDisposable {
  readonly told: readonly Told<E>[];
  /** How many times changes were missed, and a list came instead. */
  readonly gaps: number;
  /** Resolves once everything has been told that was written before the call. */
  caughtUp(): Promise<void>;
}

export interface WatchHistoryOptions<E> {
  /** A watch that resumes by itself, from this revision. */
  readonly watch: (signal: AbortSignal) => AsyncIterable<WatchUpdate<E>>;
  /** A watch of one stream, from this revision. */
  readonly peek: (
    revision: bigint,
    signal: AbortSignal,
  ) => AsyncIterable<{ readonly revision: bigint; readonly events: readonly E[] }>;
  readonly onEvent?: (event: E) => void;
  readonly onGap?: () => void;
}

export function recordWatch<E>(options: WatchHistoryOptions<E>): WatchHistory<E> {
  const { watch, peek, onEvent, onGap } = options;
  const told: Told<E>[] = [];
  const ending = new AbortController();
  let revision = 0n;
  let gaps = 0;
  let failure: unknown;
  const running = (async () => {
    for await (const update of watch(ending.signal)) {
      if (update.kind === "restart") {
        gaps += 1;
        onGap?.();
        continue;
      }
      for (const event of update.events) {
        told.push({ event, atMs: performance.now() });
        onEvent?.(event);
      }
      revision = update.revision;
    }
  })().catch((err: unknown) => {
    if (!ending.signal.aborted) failure = err;
  });

  return {
    told,
    get gaps() {
      return gaps;
    },
    async caughtUp() {
      await soon(() => revision > 0n || failure !== undefined).toBe(true);
      // A watch says how far it has come only now and then; a new one says it at once.
      const target = await endOf(peek, revision);
      await soon(() => revision >= target || failure !== undefined).toBe(true);
      if (failure !== undefined) throw failure;
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running;
    },
  };
}

/** The revision of the newest change after this one; this one when there is none. */
async function endOf<E>(peek: WatchHistoryOptions<E>["peek"], revision: bigint): Promise<bigint> {
  const reading = new AbortController();
  let newest = revision;
  try {
    for await (const message of peek(revision, reading.signal)) {
      if (message.events.length === 0) break;
      newest = message.revision;
    }
  } finally {
    reading.abort();
  }
  return newest;
}
