import type { Logger } from "pino";
import { createBackoff } from "../../../common/backoff.ts";
import type { Clock, Timer } from "../../../common/clock.ts";
import { type LeaseGrant, StoreError } from "../store.ts";
import type { Batch, LeaseTable } from "./batch.ts";
import type { StoredLease } from "./disk.ts";
import { createLeaseHeap } from "./lease-heap.ts";

/** A timer this late means that the process stood still. Its clients could not reach it, so their leases start anew. */
const STALL_MS = 1_000;

/** Between attempts to write an expiry that failed. */
const RETRY = { initialMs: 100, maxMs: 5_000 } as const;

interface Lease {
  readonly ttlMs: number;
  deadlineMs: number;
  /** Past its deadline; its end is being written. */
  expired: boolean;
  readonly keys: Set<string>;
}

export interface LessorOptions {
  readonly clock: Clock;
  readonly logger?: Logger | undefined;
  /** What the disk holds. Each lease gets its whole TTL again, as after a change of leader in etcd. */
  readonly stored: readonly StoredLease[];
  /** Ends a lease on disk; rejects when it could not be written. */
  readonly end: (leaseId: bigint) => Promise<void>;
}

/**
 * Keeps the time of leases. Deadlines are in memory only, on the monotonic clock, and renewing one touches nothing but
 * its deadline: the heap still has it at an older time, and puts it back when that comes.
 */
export interface Lessor extends LeaseTable {
  isKnown(leaseId: bigint): boolean;
  /** @throws {StoreError} `lease_not_found` */
  keepalive(leaseId: bigint): LeaseGrant;
  /** Takes over what has become durable. */
  apply(batch: Batch): void;
  /** Stops the timer. */
  close(): void;
}

export function createLessor({ clock, logger, stored, end }: LessorOptions): Lessor {
  const leases = new Map<bigint, Lease>();
  const heap = createLeaseHeap();
  const backoff = createBackoff(RETRY);
  let timer: { atMs: number; handle: Timer } | undefined;
  let retry: Timer | undefined;
  let closed = false;

  function add(leaseId: bigint, ttlMs: number, keys: Iterable<string>) {
    const deadlineMs = clock.monotonicMs() + ttlMs;
    leases.set(leaseId, { ttlMs, deadlineMs, expired: false, keys: new Set(keys) });
    heap.push(leaseId, deadlineMs);
  }

  function arm() {
    const dueMs = heap.peekMs();
    if (closed || dueMs === undefined) return;
    const nowMs = clock.monotonicMs();
    const atMs = Math.max(dueMs, nowMs);
    if (timer && timer.atMs <= atMs) return;
    timer?.handle.clear();
    timer = { atMs, handle: clock.setTimer(onTimer, atMs - nowMs) };
  }

  function onTimer() {
    renewAfterStall();
    timer?.handle.clear();
    timer = undefined;
    const nowMs = clock.monotonicMs();
    for (let atMs = heap.peekMs(); atMs !== undefined && atMs <= nowMs; atMs = heap.peekMs()) {
      const leaseId = heap.pop() ?? 0n;
      const lease = leases.get(leaseId);
      if (!lease || lease.expired) continue;
      if (lease.deadlineMs > nowMs) {
        heap.push(leaseId, lease.deadlineMs);
      } else {
        lease.expired = true;
        void expire(leaseId);
      }
    }
    arm();
  }

  /** The I/O of a process that stood still may be served before its late timer is, so both ways in look. */
  function renewAfterStall() {
    const nowMs = clock.monotonicMs();
    if (!timer || nowMs - timer.atMs < STALL_MS) return;
    logger?.warn(
      { lateMs: nowMs - timer.atMs, leases: leases.size },
      "process stood still, renewing all leases",
    );
    for (const lease of leases.values()) lease.deadlineMs = Math.max(lease.deadlineMs, nowMs + lease.ttlMs);
    timer.handle.clear();
    timer = undefined;
    arm();
  }

  async function expire(leaseId: bigint) {
    try {
      await end(leaseId);
      backoff.reset();
      logger?.debug({ leaseId: String(leaseId) }, "lease expired");
    } catch (err) {
      if (closed) return;
      logger?.warn({ err, leaseId: String(leaseId) }, "could not write the end of a lease");
      retry ??= clock.setTimer(endExpired, backoff.nextMs());
    }
  }

  function endExpired() {
    retry = undefined;
    for (const [leaseId, lease] of leases) if (lease.expired) void expire(leaseId);
  }

  for (const { leaseId, ttlMs, keys } of stored) add(leaseId, ttlMs, keys);
  arm();

  function alive(leaseId: bigint): Lease | undefined {
    renewAfterStall();
    const lease = leases.get(leaseId);
    return lease && !lease.expired && clock.monotonicMs() < lease.deadlineMs ? lease : undefined;
  }

  return {
    isKnown: (leaseId) => leases.has(leaseId),
    isAlive: (leaseId) => alive(leaseId) !== undefined,
    keys: (leaseId) => leases.get(leaseId)?.keys ?? [],
    keepalive(leaseId) {
      const lease = alive(leaseId);
      if (!lease) throw new StoreError("lease_not_found", `lease ${leaseId} is gone`);
      lease.deadlineMs = clock.monotonicMs() + lease.ttlMs;
      return { leaseId, ttlMs: lease.ttlMs };
    },
    apply(batch) {
      for (const { key, before, after } of batch.changes()) {
        if (before) leases.get(before.lease)?.keys.delete(key);
        if (after) leases.get(after.lease)?.keys.add(key);
      }
      for (const [leaseId, ttlMs] of batch.leases) {
        if (ttlMs === undefined) leases.delete(leaseId);
        else add(leaseId, ttlMs, []);
      }
      arm();
    },
    close() {
      closed = true;
      timer?.handle.clear();
      retry?.clear();
    },
  };
}
