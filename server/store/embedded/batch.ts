import {
  type KeySelector,
  type KeyValue,
  type Operation,
  StoreError,
  type TxnRequest,
  type TxnResult,
} from "../store.ts";
import type { Change, Head, LogRecord } from "./encoding.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * Transactions evaluated one after the other but not yet written: the state on disk with their changes laid over it.
 * Used within one turn of the event loop, then written as a whole or forgotten.
 */
export interface Batch {
  /** @throws {StoreError} `lease_not_found`; nothing of the transaction is in the batch then */
  txn(request: TxnRequest): TxnResult;
  /** @returns the new lease's ID */
  grantLease(ttlMs: number): bigint;
  /** Deletes the lease's keys in one revision. */
  endLease(leaseId: bigint): void;
  /** @throws {StoreError} `compacted`, `future_revision` */
  compact(revision: bigint): void;
  /** Forgets what is older than the newest `count` revisions. */
  keepNewest(count: bigint): void;
  readonly head: Head;
  readonly records: readonly LogRecord[];
  /** For each key written, its state before and after the batch. */
  changes(): Change[];
  readonly leases: ReadonlyMap<bigint, number | undefined>;
}

/** What a batch needs to know of the leases that are on disk. */
export interface LeaseTable {
  /** Whether a key may be put on it: granted, not ended, not past its deadline. */
  isAlive(leaseId: bigint): boolean;
  keys(leaseId: bigint): Iterable<string>;
}

export function createBatch(snapshot: Snapshot, table: LeaseTable): Batch {
  let { revision, compactRevision, nextLeaseId } = snapshot.head;
  const originals = new Map<string, KeyValue | undefined>();
  const overlay = new Map<string, KeyValue | undefined>();
  const records: LogRecord[] = [];
  const leases = new Map<bigint, number | undefined>();
  const attached = new Map<bigint, Set<string>>();

  function read(key: string): KeyValue | undefined {
    if (overlay.has(key)) return overlay.get(key);
    if (originals.has(key)) return originals.get(key);
    const kv = snapshot.get(key);
    originals.set(key, kv);
    return kv;
  }

  function select(selector: KeySelector): KeyValue[] {
    if ("key" in selector) {
      const kv = read(selector.key);
      return kv ? [kv] : [];
    }
    const { prefix } = selector;
    const kvs = snapshot.scan(prefix, undefined, Number.POSITIVE_INFINITY);
    const changed = [...overlay.keys()].some((key) => key.startsWith(prefix));
    return changed ? layOver(kvs, overlay, prefix) : kvs;
  }

  function write(changes: Change[], key: string, after: KeyValue | undefined) {
    changes.push({ key, before: read(key), after });
    overlay.set(key, after);
    if (after && after.lease !== 0n) {
      const keys = attached.get(after.lease) ?? new Set();
      attached.set(after.lease, keys.add(key));
    }
  }

  /** Takes a revision for the changes, if there are any. */
  function record(changes: Change[]) {
    if (changes.length === 0) return;
    revision++;
    records.push({ revision, changes });
  }

  function holds(compare: TxnRequest["compare"][number]): boolean {
    const kv = read(compare.key);
    if ("createRevision" in compare) return (kv?.createRevision ?? 0n) === compare.createRevision;
    return (kv?.modRevision ?? 0n) === compare.modRevision;
  }

  function run(operations: readonly Operation[]) {
    const changes: Change[] = [];
    const gets: KeyValue[][] = [];
    for (const operation of operations) {
      if ("get" in operation) {
        gets.push(select(operation.get));
      } else if ("put" in operation) {
        const { key, value, lease = 0n } = operation.put;
        const before = read(key);
        const modRevision = revision + 1n;
        const createRevision = before?.createRevision ?? modRevision;
        const version = (before?.version ?? 0n) + 1n;
        write(changes, key, { key, value, createRevision, modRevision, version, lease });
      } else if (read(operation.delete.key)) {
        write(changes, operation.delete.key, undefined);
      }
    }
    record(changes);
    return gets;
  }

  return {
    txn(request) {
      const succeeded = request.compare.every(holds);
      const operations = succeeded ? request.then : (request.else ?? []);
      for (const operation of operations) {
        const lease = "put" in operation ? (operation.put.lease ?? 0n) : 0n;
        if (lease !== 0n && (leases.has(lease) || !table.isAlive(lease))) {
          throw new StoreError("lease_not_found", `lease ${lease} is gone`);
        }
      }
      const gets = run(operations);
      return { succeeded, revision, gets };
    },
    grantLease(ttlMs) {
      const leaseId = nextLeaseId++;
      leases.set(leaseId, ttlMs);
      return leaseId;
    },
    endLease(leaseId) {
      leases.set(leaseId, undefined);
      const changes: Change[] = [];
      for (const key of new Set([...table.keys(leaseId), ...(attached.get(leaseId) ?? [])])) {
        if (read(key)?.lease === leaseId) write(changes, key, undefined);
      }
      record(changes);
    },
    compact(to) {
      if (to > revision) {
        throw new StoreError("future_revision", `revision ${to} does not exist, the newest is ${revision}`);
      }
      if (to <= compactRevision) throw compacted(to, compactRevision);
      compactRevision = to;
    },
    keepNewest(count) {
      const oldest = revision - count + 1n;
      if (oldest > compactRevision) compactRevision = oldest;
    },
    get head() {
      return { revision, compactRevision, nextLeaseId };
    },
    records,
    leases,
    changes() {
      return [...overlay].map(([key, after]) => ({ key, before: originals.get(key), after }));
    },
  };
}

export function compacted(revision: bigint, compactRevision: bigint): StoreError {
  const message = `revision ${revision} is no longer kept, the oldest is ${compactRevision}`;
  return new StoreError("compacted", message, { compactRevision });
}

/**
 * Keys in order, with others laid over them; `undefined` takes a key away.
 * @param prefix overlaid keys without it are left out
 */
export function layOver(
  kvs: readonly KeyValue[],
  overlay: ReadonlyMap<string, KeyValue | undefined>,
  prefix: string,
): KeyValue[] {
  const merged = kvs.filter((kv) => !overlay.has(kv.key));
  for (const [key, kv] of overlay) if (kv && key.startsWith(prefix)) merged.push(kv);
  const keyed = merged.map((kv) => ({ bytes: Buffer.from(kv.key), kv }));
  keyed.sort((a, b) => Buffer.compare(a.bytes, b.bytes));
  return keyed.map(({ kv }) => kv);
}
