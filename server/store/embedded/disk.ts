import { statfs } from "node:fs/promises";
import { StoreError } from "../store.ts";
import {
  type Change,
  decodeNumber,
  decodeText,
  encodeCurrent,
  encodeHead,
  encodeNumber,
  encodeRecord,
  type Head,
  type LogRecord,
} from "./encoding.ts";
import { createSnapshot, type Snapshot } from "./snapshot.ts";
import { HEAD_KEY, openTables, type Table } from "./tables.ts";

/** EIO. LMDB answers it both for a broken disk and for a write cut short because the disk is full. */
const IO_ERROR = 5;
/** ENOSPC, EDQUOT, and LMDB's own "map full". */
const FULL_ERRORS: readonly unknown[] = [28, 122, -30792];

/** An EIO with less room left than this many times the batch is a full disk: a changed page is written anew. */
const ROOM_FACTOR = 4;
const LEAST_ROOM_BYTES = 1 << 20;

/** Everything one commit writes. */
export interface DiskWrite {
  readonly head: Head;
  /** For each key written, its state before and after all of the commit. */
  readonly changes: readonly Change[];
  readonly records: readonly LogRecord[];
  /** Log records to drop: from this revision up to, but not including, that one. */
  readonly trim: { readonly from: bigint; readonly to: bigint };
  /** Granted leases with their TTL in milliseconds; `undefined` for ended ones. */
  readonly leases: ReadonlyMap<bigint, number | undefined>;
}

export interface StoredLease {
  readonly leaseId: bigint;
  readonly ttlMs: number;
  readonly keys: readonly string[];
}

/** The files. Reads are synchronous, from memory-mapped pages; writes happen in another thread. */
export interface Disk {
  /** The newest durable state, unchanging until it is released. */
  snapshot(): Snapshot;
  /** The oldest revision whose log record is still there; one above the newest when there is none. */
  oldestRecord(): bigint;
  leases(): StoredLease[];
  /**
   * Writes all or nothing, and resolves when it is flushed. One at a time.
   * @throws {StoreError} `no_space` when nothing was written; `unknown_outcome` when the disk failed, after which the
   * files must not be used until they are opened again
   */
  commit(write: DiskWrite): Promise<void>;
  close(): Promise<void>;
}

/** @throws {StoreError} `invalid` when a newer release wrote the files, `unavailable` when they cannot be opened */
export async function openDisk(directory: string): Promise<Disk> {
  const tables = await openTables(directory);
  const { root, meta, current, log, leases, leaseKeys } = tables;

  /** Queues the writes; returns how many bytes they have. */
  function queue(write: DiskWrite): number {
    let bytes = 0;
    const put = (table: Table, key: Buffer, value: Buffer) => {
      bytes += key.length + value.length;
      void table.put(key, value);
    };
    for (const { key, before, after } of write.changes) {
      const was = before?.lease ?? 0n;
      const is = after?.lease ?? 0n;
      if (after) put(current, Buffer.from(key), encodeCurrent(after));
      else void current.remove(Buffer.from(key));
      if (was !== is && was !== 0n) void leaseKeys.remove(leaseKey(was, key));
      if (was !== is && is !== 0n) put(leaseKeys, leaseKey(is, key), Buffer.alloc(0));
    }
    for (const { revision, changes } of write.records) {
      put(log, encodeNumber(revision), encodeRecord(changes));
    }
    for (let revision = write.trim.from; revision < write.trim.to; revision++) {
      void log.remove(encodeNumber(revision));
    }
    for (const [leaseId, ttlMs] of write.leases) {
      if (ttlMs === undefined) void leases.remove(encodeNumber(leaseId));
      else put(leases, encodeNumber(leaseId), encodeNumber(BigInt(ttlMs)));
    }
    put(meta, HEAD_KEY, encodeHead(write.head));
    return bytes;
  }

  return {
    snapshot: () => createSnapshot(tables),
    oldestRecord() {
      for (const key of log.getKeys({ limit: 1 })) return decodeNumber(key);
      const snapshot = createSnapshot(tables);
      snapshot.release();
      return snapshot.head.revision + 1n;
    },
    leases() {
      const keys = new Map<bigint, string[]>();
      for (const entry of leaseKeys.getKeys()) {
        const leaseId = decodeNumber(entry);
        const list = keys.get(leaseId) ?? [];
        keys.set(leaseId, list);
        list.push(decodeText(entry, NUMBER_BYTES));
      }
      const stored: StoredLease[] = [];
      for (const { key, value } of leases.getRange()) {
        const leaseId = decodeNumber(key);
        stored.push({ leaseId, ttlMs: Number(decodeNumber(value)), keys: keys.get(leaseId) ?? [] });
      }
      return stored;
    },
    async commit(write) {
      let bytes = 0;
      try {
        await root.batch(() => {
          bytes = queue(write);
        });
      } catch (err) {
        const cause = await commitCause(err);
        if (await isFull(cause, directory, bytes)) {
          throw new StoreError("no_space", `the disk with ${directory} is full`, { cause });
        }
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new StoreError("unknown_outcome", `writing to ${directory} failed: ${reason}`, { cause });
      }
    },
    close: () => root.close(),
  };
}

const NUMBER_BYTES = 8;

const leaseKey = (leaseId: bigint, key: string) => Buffer.concat([encodeNumber(leaseId), Buffer.from(key)]);

/** lmdb rejects with a placeholder, and tells the cause through a promise on it. */
async function commitCause(err: unknown): Promise<unknown> {
  if (!(err instanceof Error) || !("commitError" in err)) return err;
  try {
    await err.commitError;
    return err;
  } catch (cause) {
    return cause;
  }
}

async function isFull(cause: unknown, directory: string, batchBytes: number): Promise<boolean> {
  if (!(cause instanceof Error) || !("code" in cause)) return false;
  if (FULL_ERRORS.includes(cause.code)) return true;
  if (cause.code !== IO_ERROR) return false;
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize < Math.max(batchBytes * ROOM_FACTOR, LEAST_ROOM_BYTES);
  } catch {
    // A disk that cannot even tell its room is broken, not full.
    return false;
  }
}
