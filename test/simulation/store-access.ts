import { type Store, StoreError, type WatchBatch, type WatchRequest } from "../../server/store/store.ts";
import type { MemoryStore } from "../support/memory-store.ts";
import type { SimulatedProcess } from "./simulated-process.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** One replica's way to the store, with what can go wrong on it. */
export interface StoreAccess extends Store {
  /** Nothing gets through: calls fail, some of them after they took effect, and watches end. */
  setLost(lost: boolean): void;
  /** Nothing comes by the watch, as if nothing happened; what is held back comes when it ends. */
  setWatchStalled(stalled: boolean): void;
  /** The part of the writes that take effect without an answer. */
  lostReplies: number;
  /** By how much the watch lags, in milliseconds. */
  watchLagMs: number;
}

/** A store in the same data centre, flushing to disk. */
const LEAST_TRIP_MS = 0.1;
const TRIP_SPREAD_MS = 1.5;

/** How long a call to a store that does not answer takes at most; the etcd engine's own deadlines are as long. */
const LONGEST_SILENCE_MS = 3_000;

/** Within how long a watch learns that its store is lost, as with the etcd engine. */
const LONGEST_UNNOTICED_MS = 5_000;

/** @param random seeded; the faults and the times of this access alone depend on it */
export function createStoreAccess(
  store: MemoryStore,
  process: SimulatedProcess,
  time: VirtualTime,
  random: () => number,
): StoreAccess {
  let lost = false;
  let stalled = false;
  const watches = new Set<{ lose(): void; flush(): void }>();
  const tripMs = () => LEAST_TRIP_MS + TRIP_SPREAD_MS * random() ** 2;

  /** A call that goes to the store and comes back. @param writes whether it may take effect without an answer */
  function call<T>(signal: AbortSignal | undefined, writes: boolean, run: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(aborted("unavailable", signal));
      let sent = false;
      let over = false;
      const settle = (act: () => void) => {
        if (over) return;
        over = true;
        signal?.removeEventListener("abort", onAbort);
        act();
      };
      const unsure = () => (sent && writes ? "unknown_outcome" : "unavailable");
      const onAbort = () => settle(() => reject(aborted(unsure(), signal)));
      signal?.addEventListener("abort", onAbort, { once: true });
      const later = (delayMs: number, act: () => void) =>
        time.at(time.nowMs + delayMs, () => process.enter(() => settle(act)));
      const silence = () =>
        later(LONGEST_SILENCE_MS * random(), () =>
          reject(new StoreError(unsure(), "the store does not answer")),
        );
      time.at(time.nowMs + tripMs(), () => {
        if (over) return;
        if (lost) {
          silence();
          return;
        }
        sent = true;
        const loses = writes && random() < access.lostReplies;
        run().then(
          (result) => (loses ? silence() : later(tripMs(), () => resolve(result))),
          (err: unknown) => later(tripMs(), () => reject(err)),
        );
      });
    });
  }

  async function* watch(
    { prefix, fromRevision }: WatchRequest,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch> {
    const arrived: WatchBatch[] = [];
    let underWay: WatchBatch[] = [];
    let failure: StoreError | undefined;
    let lastMs = 0;
    let wake = () => {};
    const arrive = (batch: WatchBatch) => {
      if (stalled || lost) underWay.push(batch);
      else
        process.enter(() => {
          arrived.push(batch);
          wake();
        });
    };
    const line = {
      lose: () =>
        time.at(time.nowMs + LONGEST_UNNOTICED_MS * random(), () => {
          if (!lost) return;
          failure = new StoreError("unavailable", "the watch heard nothing of the store");
          process.enter(() => wake());
        }),
      flush() {
        const late = underWay;
        underWay = [];
        for (const batch of late) arrive(batch);
      },
    };
    const unsubscribe = store.subscribe((revision, events) => {
      lastMs = Math.max(lastMs, time.nowMs + access.watchLagMs + tripMs());
      time.at(lastMs, () =>
        arrive({ revision, events: events.filter(({ kv }) => kv.key.startsWith(prefix)) }),
      );
    });
    watches.add(line);
    const onAbort = () => wake();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await call(signal, false, async () => {});
      let told = fromRevision - 1n;
      for await (const batch of store.watch({ prefix, fromRevision }, signal)) {
        if (batch.revision > told) told = batch.revision;
        yield batch;
        if (batch.revision >= store.revision) break;
      }
      while (!signal.aborted) {
        const batch = arrived.shift();
        if (batch && batch.revision > told) {
          told = batch.revision;
          yield batch;
        } else if (!batch) {
          if (failure) throw failure;
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      unsubscribe();
      watches.delete(line);
      signal.removeEventListener("abort", onAbort);
    }
  }

  const access: StoreAccess = {
    engine: "memory",
    maxOperations: store.maxOperations,
    lostReplies: 0,
    watchLagMs: 0,
    setLost(next) {
      if (lost === next) return;
      lost = next;
      for (const line of [...watches]) lost ? line.lose() : line.flush();
    },
    setWatchStalled(next) {
      stalled = next;
      if (!stalled) for (const line of [...watches]) line.flush();
    },
    range: (request, signal) => call(signal, false, () => store.range(request)),
    txn: (request, signal) => call(signal, request.then.length > 0, () => store.txn(request)),
    leaseGrant: (ttlMs, signal) => call(signal, true, () => store.leaseGrant(ttlMs)),
    leaseKeepalive: (leaseId, signal) => call(signal, true, () => store.leaseKeepalive(leaseId)),
    leaseRevoke: (leaseId, signal) => call(signal, true, () => store.leaseRevoke(leaseId)),
    watch,
    compact: (revision, signal) => call(signal, true, () => store.compact(revision)),
    close: async () => {},
  };
  process.onKilled(() => {
    // Whoever is gone has no connection to hold events for.
    for (const line of [...watches]) watches.delete(line);
  });
  return access;
}

function aborted(code: "unavailable" | "unknown_outcome", signal: AbortSignal | undefined) {
  return new StoreError(code, "the call was aborted", { cause: signal?.reason });
}
