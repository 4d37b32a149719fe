import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import type { Keys } from "../store/keys.ts";
import { type KeyValue, type Store, StoreError } from "../store/store.ts";
import type { View } from "./view.ts";

/**
 * Keeps a view up to date: lists once, then watches. When the store is lost the view stays as it is, `fresh` turns
 * false, and watching goes on from the last revision as soon as the store is back. What the store gets over by itself
 * within its own time (`Store.watch` has not thrown) is no loss.
 */
export interface Feed {
  /** Whether the view follows the store now. */
  readonly fresh: boolean;
  /** Since when it does, on the monotonic clock; undefined while it does not. */
  readonly freshSinceMs: number | undefined;
  /** Resolves once the view has everything up to the revision. Rejects with the signal's reason. */
  reached(revision: bigint, signal: AbortSignal): Promise<void>;
  /** Resolves once the view is complete and follows the store. Rejects with the signal's reason. */
  ready(signal: AbortSignal): Promise<void>;
  /** Runs until the signal aborts. @throws {StoreError} `invalid` when the store is not to be served from */
  run(signal: AbortSignal): Promise<void>;
}

export interface FeedOptions {
  readonly store: Store;
  readonly keys: Keys;
  readonly view: View;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Keeps one listing answer well below etcd's limit of 1.5 MiB a request at a few hundred bytes a key. */
const LIST_PAGE_SIZE = 1000;

/** An engine that can be cut off looks for its store for seconds before it gives up, so there is little to spare here. */
const LONGEST_RETRY_MS = 1_000;

export function createFeed({ store, keys, view, clock, logger }: FeedOptions): Feed {
  let freshSinceMs: number | undefined;

  async function list(signal: AbortSignal) {
    const kvs: KeyValue[] = [];
    let page = await store.range({ prefix: keys.prefix, limit: LIST_PAGE_SIZE }, signal);
    const { revision } = page;
    kvs.push(...page.kvs);
    for (let last = kvs.at(-1); page.more && last; last = kvs.at(-1)) {
      page = await store.range(
        { prefix: keys.prefix, limit: LIST_PAGE_SIZE, revision, after: last.key },
        signal,
      );
      kvs.push(...page.kvs);
    }
    view.load(kvs, revision);
    logger.info({ keys: kvs.length, revision: String(revision) }, "view loaded");
  }

  async function until(condition: () => boolean, signal: AbortSignal) {
    while (!condition()) {
      signal.throwIfAborted();
      await view.changed.next(signal);
    }
  }

  return {
    get fresh() {
      return freshSinceMs !== undefined;
    },
    get freshSinceMs() {
      return freshSinceMs;
    },
    reached: (revision, signal) => until(() => view.revision >= revision, signal),
    ready: (signal) => until(() => freshSinceMs !== undefined, signal),
    async run(signal) {
      const backoff = createBackoff({ maxMs: LONGEST_RETRY_MS });
      let listed = false;
      while (!signal.aborted) {
        try {
          if (!listed) await list(signal);
          listed = true;
          const request = { prefix: keys.prefix, fromRevision: view.revision + 1n };
          for await (const batch of store.watch(request, signal)) {
            view.apply(batch.events, batch.revision);
            backoff.reset();
            if (freshSinceMs !== undefined) continue;
            freshSinceMs = clock.monotonicMs();
            view.changed.notify();
          }
          if (!signal.aborted) throw new StoreError("unavailable", "the store ended the watch");
        } catch (err) {
          if (signal.aborted) break;
          freshSinceMs = undefined;
          // The store is not what the view was made from: nothing mends that but starting anew.
          if (err instanceof StoreError && err.code === "invalid") throw err;
          if (err instanceof StoreError && err.code === "compacted") {
            listed = false;
            logger.info({ err }, "the view's place in the history is compacted, listing anew");
          } else {
            logger.warn({ err }, "store lost, serving the last view");
          }
          await sleep(clock, backoff.nextMs(), signal).catch(() => {});
        }
      }
      freshSinceMs = undefined;
    },
  };
}
