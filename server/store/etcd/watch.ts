import { createBackoff } from "../../../common/backoff.ts";
import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { StoreError, type WatchBatch, type WatchRequest } from "../store.ts";
import { checkPrefix } from "../validation.ts";
import type { EtcdConnection } from "./connection.ts";
import { createWatchAssembler } from "./watch-assembler.ts";
import { type OpenWatch, watchSession } from "./watch-session.ts";

/**
 * A watch that no member has served for so long is told to its consumer. It covers the election of a new leader, which
 * takes etcd 1 to 3 s, and the time to notice that a member is frozen.
 */
export const LOST_AFTER_MS = 5_000;

/** Between streams, beside what the connection does for each member. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 1_000;

export interface WatcherOptions {
  readonly connection: EtcdConnection;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A number in [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** As `Store.watch`. `unavailable` is thrown once no member has served the watch for `LOST_AFTER_MS`. */
export type Watcher = (request: WatchRequest, signal: AbortSignal) => AsyncGenerator<WatchBatch, void>;

/**
 * Each watch has a stream of its own: a slow consumer holds up nobody else, and an answer to a progress request, which
 * is about a whole stream, is about this watch. A stream that breaks is opened again, at any member, behind the last
 * event that was yielded.
 */
export function createWatcher({ connection, clock, logger, random }: WatcherOptions): Watcher {
  return async function* watch({ prefix, fromRevision }, signal) {
    checkPrefix(prefix);
    if (connection.closing.aborted) throw new StoreError("unavailable", "the store is closed");
    const ended = AbortSignal.any([signal, connection.closing]);
    const backoff = createBackoff({
      initialMs: FIRST_RETRY_MS,
      maxMs: LONGEST_RETRY_MS,
      ...(random ? { random } : {}),
    });
    // etcd takes 0 for "from now on".
    const assembler = createWatchAssembler(fromRevision > 0n ? fromRevision : 1n);
    let servedMs = clock.monotonicMs();
    let first = true;

    const onServed = () => {
      servedMs = clock.monotonicMs();
      backoff.reset();
    };

    /** Gives up when the watch is lost, with the connection's own reason. */
    async function open(): Promise<OpenWatch> {
      const attempt = new AbortController();
      const leftMs = servedMs + LOST_AFTER_MS - clock.monotonicMs();
      const timer = clock.setTimer(() => attempt.abort(), leftMs);
      try {
        const either = AbortSignal.any([ended, attempt.signal]);
        return await connection.stream((stubs) => stubs.watch.watch(), either);
      } finally {
        timer.clear();
      }
    }

    while (!ended.aborted) {
      try {
        const opened = await open();
        const session = { connection, clock, opened, prefix, assembler, first, onServed };
        for await (const batch of watchSession(session, ended)) {
          first = false;
          yield batch;
        }
      } catch (err) {
        if (ended.aborted) break;
        if (err instanceof StoreError && err.code === "compacted") throw err;
        if (clock.monotonicMs() - servedMs >= LOST_AFTER_MS)
          throw new StoreError("unavailable", `no etcd member has served the watch for ${LOST_AFTER_MS} ms`, {
            cause: err,
          });
        logger.info({ err, prefix, fromRevision: String(assembler.next) }, "watch interrupted");
      }
      await sleep(clock, backoff.nextMs(), ended).catch(() => {});
    }
  };
}
