import type { Logger } from "pino";
import { type Clock, systemClock } from "../../../common/clock.ts";
import { type Operation, type Store, StoreError, type TxnRequest } from "../store.ts";
import { checkRange, checkTxn, grantedTtlMs, MAX_OPERATIONS } from "../validation.ts";
import { aborted, createCommitLoop } from "./commit-loop.ts";
import { type Disk, openDisk } from "./disk.ts";
import { createLessor } from "./lessor.ts";
import { lockDirectory } from "./lock.ts";
import { readRange } from "./range.ts";
import { createWatchHub } from "./watch-hub.ts";

/** At one conference's four writes, the history of 25,000 conferences: hours for a watcher to come back. About 100 MB. */
const HISTORY_REVISIONS = 100_000;

/** What a queued operation costs besides its value, roughly measured. */
const OPERATION_BYTES = 128;

export interface EmbeddedStoreOptions {
  /** Where the files are; created if absent. One process at a time. */
  readonly directory: string;
  /** The system's clock by default. */
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** How many of the newest revisions can be read and watched from. Default 100,000. */
  readonly historyRevisions?: number;
}

/**
 * Opens the store in a directory of this machine. No server is needed, and everything acknowledged is on disk.
 *
 * @throws {StoreError} `unavailable` when another process has it open (the message says which) or the directory cannot
 * be written, `invalid` when a newer release wrote it
 */
export async function createEmbeddedStore(options: EmbeddedStoreOptions): Promise<Store> {
  await using opened = new AsyncDisposableStack();
  const lock = await lockDirectory(options.directory);
  opened.defer(() => lock.release());
  const disk = await openDisk(options.directory);
  opened.defer(() => disk.close());
  const store = createStore(disk, options, () => owned.disposeAsync());
  const owned = opened.move();
  return store;
}

/**
 * The store over files that are open already, so that tests can put faults between.
 * @param release called at the end of `close`
 */
export function createStore(
  disk: Disk,
  options: Omit<EmbeddedStoreOptions, "directory">,
  release: () => Promise<void>,
): Store {
  const { clock = systemClock, logger, historyRevisions = HISTORY_REVISIONS } = options;
  const reads = new Set<Promise<unknown>>();
  let refusal: StoreError | undefined;
  let closing: Promise<void> | undefined;

  const initial = disk.snapshot();
  initial.release();
  const hub = createWatchHub(disk, initial.head, clock);
  const endLease = (leaseId: bigint, signal?: AbortSignal): Promise<void> =>
    loop.submit(
      (batch) => {
        if (lessor.isKnown(leaseId)) batch.endLease(leaseId);
      },
      0,
      signal,
    );
  const lessor = createLessor({ clock, logger, stored: disk.leases(), end: endLease });
  const loop = createCommitLoop({
    disk,
    leases: lessor,
    historyRevisions: BigInt(Math.max(1, historyRevisions)),
    logger,
    onCommit(batch) {
      lessor.apply(batch);
      hub.publish(batch.records, batch.head);
    },
    onFailure(error) {
      refusal = error;
      lessor.close();
      hub.end(error);
    },
  });

  function checkOpen() {
    if (refusal) throw refusal;
  }

  async function close() {
    refusal ??= new StoreError("unavailable", "the store is closed");
    lessor.close();
    await loop.close();
    hub.end();
    await Promise.allSettled(reads);
    await release();
  }

  return {
    engine: "embedded",
    maxOperations: MAX_OPERATIONS,
    async range(request, signal) {
      checkOpen();
      checkRange(request);
      const proceed = () => {
        if (signal?.aborted) throw aborted("unavailable", signal);
      };
      proceed();
      const snapshot = disk.snapshot();
      const read = readRange(snapshot, request, proceed).finally(() => {
        snapshot.release();
        reads.delete(read);
      });
      reads.add(read);
      return await read;
    },
    async txn(request, signal) {
      checkOpen();
      checkTxn(request);
      return await loop.submit((batch) => batch.txn(request), weigh(request), signal);
    },
    async leaseGrant(ttlMs, signal) {
      checkOpen();
      const granted = grantedTtlMs(ttlMs);
      const leaseId = await loop.submit((batch) => batch.grantLease(granted), 0, signal);
      return { leaseId, ttlMs: granted };
    },
    async leaseKeepalive(leaseId, signal) {
      checkOpen();
      if (signal?.aborted) throw aborted("unavailable", signal);
      return lessor.keepalive(leaseId);
    },
    async leaseRevoke(leaseId, signal) {
      checkOpen();
      await endLease(leaseId, signal);
    },
    watch: (request, signal) => hub.watch(request, signal),
    async compact(revision, signal) {
      checkOpen();
      await loop.submit((batch) => batch.compact(revision), 0, signal);
    },
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

/** What a transaction holds in memory, roughly. */
function weigh({ then, else: otherwise = [] }: TxnRequest): number {
  const weighOperation = (operation: Operation) =>
    OPERATION_BYTES + ("put" in operation ? operation.put.value.length : 0);
  return [...then, ...otherwise].reduce((sum, operation) => sum + weighOperation(operation), 0);
}
