import type { Clock, Timer } from "../../common/clock.ts";
import { createPulse } from "../../common/pulse.ts";
import {
  type KeySelector,
  type KeyValue,
  type Operation,
  type RangeRequest,
  type RangeResult,
  type Store,
  StoreError,
  type StoreEvent,
  type TxnRequest,
  type TxnResult,
  type WatchBatch,
  type WatchRequest,
} from "../../server/store/store.ts";
import {
  checkPrefix,
  checkRange,
  checkTxn,
  grantedTtlMs,
  MAX_OPERATIONS,
} from "../../server/store/validation.ts";

/** What became of a key at one revision. */
interface KeyChange {
  readonly key: string;
  readonly before: KeyValue | undefined;
  readonly after: KeyValue | undefined;
}

interface LogRecord {
  readonly revision: bigint;
  readonly changes: readonly KeyChange[];
}

/** What outlives a store that is closed, as the files of an engine do. */
export interface MemoryData {
  revision: bigint;
  compactRevision: bigint;
  nextLeaseId: bigint;
  readonly current: Map<string, KeyValue>;
  readonly leases: Map<bigint, number>;
  log: LogRecord[];
}

/** Like the other engines', the first revision is 1n: that of an empty store. */
export function createMemoryData(): MemoryData {
  return {
    revision: 1n,
    compactRevision: 1n,
    nextLeaseId: 1n,
    current: new Map(),
    leases: new Map(),
    log: [],
  };
}

/**
 * A store without files: the semantics of the engines, at the speed of memory. A transaction is done before its call
 * returns, so what a caller does next in the same turn sees it.
 */
export interface MemoryStore extends Store {
  readonly revision: bigint;
  /** All keys as they are now, in no order. */
  current(): Iterable<KeyValue>;
  /** Calls back with each revision as it is written. Returns a function that ends that. */
  subscribe(listener: (revision: bigint, events: readonly StoreEvent[]) => void): () => void;
}

/** A batch of a watch ends with the revision that reaches this many events. */
const BATCH_EVENTS = 1_000;

/** @param data what an earlier store left; empty by default */
export function createMemoryStore(clock: Clock, data: MemoryData = createMemoryData()): MemoryStore {
  const listeners = new Set<(revision: bigint, events: readonly StoreEvent[]) => void>();
  const changed = createPulse(clock);
  const expiries = new Map<bigint, { deadlineMs: number; timer: Timer }>();
  let closed = false;

  function checkOpen(signal?: AbortSignal) {
    if (closed) throw new StoreError("unavailable", "the store is closed");
    if (signal?.aborted)
      throw new StoreError("unavailable", "the call was aborted", { cause: signal.reason });
  }

  /** Applies changes as one revision, if there are any. */
  function commit(changes: readonly KeyChange[]) {
    if (changes.length === 0) return;
    data.revision += 1n;
    for (const { key, after } of changes) {
      if (after) data.current.set(key, after);
      else data.current.delete(key);
    }
    data.log.push({ revision: data.revision, changes });
    const events = changes.map((change) => toEvent(data.revision, change));
    for (const listener of [...listeners]) listener(data.revision, events);
    changed.notify();
  }

  function select(selector: KeySelector, overlay: ReadonlyMap<string, KeyValue | undefined>): KeyValue[] {
    if ("key" in selector) {
      const { key } = selector;
      const kv = overlay.has(key) ? overlay.get(key) : data.current.get(key);
      return kv ? [kv] : [];
    }
    return layOver(data.current, overlay, ({ key }) => key.startsWith(selector.prefix));
  }

  function run(operations: readonly Operation[]) {
    for (const operation of operations) {
      const lease = "put" in operation ? (operation.put.lease ?? 0n) : 0n;
      if (lease !== 0n && !isAlive(lease)) {
        throw new StoreError("lease_not_found", `lease ${lease} is gone`);
      }
    }
    const modRevision = data.revision + 1n;
    const overlay = new Map<string, KeyValue | undefined>();
    const gets: KeyValue[][] = [];
    for (const operation of operations) {
      if ("get" in operation) {
        gets.push(select(operation.get, overlay));
      } else if ("put" in operation) {
        const { key, value, lease = 0n } = operation.put;
        const before = data.current.get(key);
        const createRevision = before?.createRevision ?? modRevision;
        const version = (before?.version ?? 0n) + 1n;
        overlay.set(key, { key, value, createRevision, modRevision, version, lease });
      } else if (data.current.has(operation.delete.key)) {
        overlay.set(operation.delete.key, undefined);
      }
    }
    commit([...overlay].map(([key, after]) => ({ key, before: data.current.get(key), after })));
    return gets;
  }

  function isAlive(leaseId: bigint) {
    const expiry = expiries.get(leaseId);
    return expiry !== undefined && clock.monotonicMs() < expiry.deadlineMs;
  }

  function arm(leaseId: bigint, ttlMs: number) {
    expiries.get(leaseId)?.timer.clear();
    const timer = clock.setTimer(() => endLease(leaseId), ttlMs);
    expiries.set(leaseId, { deadlineMs: clock.monotonicMs() + ttlMs, timer });
  }

  function endLease(leaseId: bigint) {
    if (!data.leases.delete(leaseId)) return;
    expiries.get(leaseId)?.timer.clear();
    expiries.delete(leaseId);
    const keys = [...data.current.values()].filter(({ lease }) => lease === leaseId);
    commit(keys.map((before) => ({ key: before.key, before, after: undefined })));
  }

  function holds(compare: TxnRequest["compare"][number]) {
    const kv = data.current.get(compare.key);
    if ("createRevision" in compare) return (kv?.createRevision ?? 0n) === compare.createRevision;
    return (kv?.modRevision ?? 0n) === compare.modRevision;
  }

  function range(request: RangeRequest): RangeResult {
    const { revision = data.revision, after, limit = Number.POSITIVE_INFINITY } = request;
    if (revision > data.revision) {
      throw new StoreError("future_revision", `revision ${revision} does not exist yet`);
    }
    if (revision < data.compactRevision) throw compacted(revision, data.compactRevision);
    const undone = new Map<string, KeyValue | undefined>();
    for (let index = data.log.length - 1; index >= 0; index--) {
      const record = data.log[index];
      if (!record || record.revision <= revision) break;
      for (const { key, before } of record.changes) undone.set(key, before);
    }
    const kvs = layOver(
      data.current,
      undone,
      ({ key }) =>
        ("key" in request ? key === request.key : key.startsWith(request.prefix)) &&
        (after === undefined || compareKeys(key, after) > 0),
    );
    return { revision, kvs: kvs.slice(0, limit), more: kvs.length > limit };
  }

  /** What there is from a revision on; the batch's revision is below it when there is nothing yet. */
  function read(fromRevision: bigint, prefix: string): WatchBatch {
    if (fromRevision > data.revision) return { revision: data.revision, events: [] };
    if (fromRevision < data.compactRevision) throw compacted(fromRevision, data.compactRevision);
    const events: StoreEvent[] = [];
    let revision = data.revision;
    // Every revision has its record, so places follow from numbers.
    const first = data.log[0]?.revision ?? fromRevision;
    for (let index = Math.max(0, Number(fromRevision - first)); index < data.log.length; index++) {
      const record = data.log[index];
      if (!record) break;
      for (const change of record.changes) {
        if (change.key.startsWith(prefix)) events.push(toEvent(record.revision, change));
      }
      if (events.length < BATCH_EVENTS) continue;
      revision = record.revision;
      break;
    }
    return { revision, events };
  }

  async function* watch({ prefix, fromRevision }: WatchRequest, signal: AbortSignal) {
    checkPrefix(prefix);
    checkOpen();
    let next = fromRevision;
    let first = true;
    while (!signal.aborted && !closed) {
      const batch = read(next, prefix);
      if (batch.revision >= next) next = batch.revision + 1n;
      if (first || batch.events.length > 0) yield batch;
      else await changed.next(signal);
      first = false;
    }
  }

  for (const [leaseId, ttlMs] of data.leases) arm(leaseId, ttlMs);

  return {
    engine: "memory",
    maxOperations: MAX_OPERATIONS,
    get revision() {
      return data.revision;
    },
    current: () => data.current.values(),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async range(request, signal) {
      checkOpen(signal);
      checkRange(request);
      return range(request);
    },
    async txn(request, signal): Promise<TxnResult> {
      checkOpen(signal);
      checkTxn(request);
      const succeeded = request.compare.every(holds);
      const gets = run(succeeded ? request.then : (request.else ?? []));
      return { succeeded, revision: data.revision, gets };
    },
    async leaseGrant(ttlMs, signal) {
      checkOpen(signal);
      const granted = grantedTtlMs(ttlMs);
      const leaseId = data.nextLeaseId;
      data.nextLeaseId += 1n;
      data.leases.set(leaseId, granted);
      arm(leaseId, granted);
      return { leaseId, ttlMs: granted };
    },
    async leaseKeepalive(leaseId, signal) {
      checkOpen(signal);
      const ttlMs = data.leases.get(leaseId);
      if (ttlMs === undefined || !isAlive(leaseId)) {
        throw new StoreError("lease_not_found", `lease ${leaseId} is gone`);
      }
      arm(leaseId, ttlMs);
      return { leaseId, ttlMs };
    },
    async leaseRevoke(leaseId, signal) {
      checkOpen(signal);
      endLease(leaseId);
    },
    watch,
    async compact(revision, signal) {
      checkOpen(signal);
      if (revision > data.revision) {
        throw new StoreError("future_revision", `revision ${revision} does not exist yet`);
      }
      if (revision <= data.compactRevision) throw compacted(revision, data.compactRevision);
      data.compactRevision = revision;
      data.log = data.log.filter((record) => record.revision >= revision);
    },
    async close() {
      closed = true;
      for (const { timer } of expiries.values()) timer.clear();
      changed.notify();
    },
  };
}

function compacted(revision: bigint, compactRevision: bigint) {
  const message = `revision ${revision} is no longer kept, the oldest is ${compactRevision}`;
  return new StoreError("compacted", message, { compactRevision });
}

function toEvent(revision: bigint, { key, after }: KeyChange): StoreEvent {
  if (after) return { type: "put", kv: after };
  const value = new Uint8Array(0);
  return {
    type: "delete",
    kv: { key, value, createRevision: 0n, modRevision: revision, version: 0n, lease: 0n },
  };
}

/** The wanted keys in order, with others laid over them; `undefined` takes a key away. */
function layOver(
  current: ReadonlyMap<string, KeyValue>,
  overlay: ReadonlyMap<string, KeyValue | undefined>,
  isWanted: (kv: KeyValue) => boolean,
): KeyValue[] {
  const kvs: KeyValue[] = [];
  for (const kv of current.values()) if (!overlay.has(kv.key) && isWanted(kv)) kvs.push(kv);
  for (const kv of overlay.values()) if (kv && isWanted(kv)) kvs.push(kv);
  return kvs.sort((a, b) => compareKeys(a.key, b.key));
}

/** By UTF-8 bytes, which order as code points do; UTF-16 units do not where surrogates meet what is above them. */
function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const left = a.charCodeAt(index);
    const right = b.charCodeAt(index);
    if (left === right) continue;
    const isSurrogate = (unit: number) => unit >= 0xd800 && unit < 0xe000;
    if (isSurrogate(left) !== isSurrogate(right) && left >= 0xd800 && right >= 0xd800) {
      return isSurrogate(left) ? 1 : -1;
    }
    return left - right;
  }
  return a.length - b.length;
}
