import type { KeyValue, StoreEvent } from "../store.ts";

/** What one transaction changed: a record of the log. The previous states let readers go back before it. */
export interface LogRecord {
  readonly revision: bigint;
  readonly changes: readonly Change[];
}

/** A key before and after; `undefined` where it does not exist. */
export interface Change {
  readonly key: string;
  readonly before: KeyValue | undefined;
  readonly after: KeyValue | undefined;
}

/** The numbers that describe the whole store. */
export interface Head {
  readonly revision: bigint;
  /** The oldest revision that can be read or watched from. */
  readonly compactRevision: bigint;
  /** The ID the next lease gets; never goes back, so no ID is used twice. */
  readonly nextLeaseId: bigint;
}

/** As in etcd, an empty store is at revision 1, and the first write gets 2. */
export const FIRST_HEAD: Head = { revision: 1n, compactRevision: 1n, nextLeaseId: 1n };

const NO_BYTES = new Uint8Array(0);

/** createRevision, modRevision, version, lease. */
const STATE_BYTES = 32;
const LENGTH_BYTES = 4;
const HAS_AFTER = 1;
const HAS_BEFORE = 2;

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A part as a plain Uint8Array: what the files give are Buffers, whose `slice` and equality differ. */
const plain = (bytes: Uint8Array, start: number, end: number) =>
  new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start);

/** The text of a key. */
export const decodeText = (bytes: Uint8Array, start = 0) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8", start);

/** A number as a key: eight bytes, big-endian, so that byte order is numeric order. */
export function encodeNumber(value: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

export const decodeNumber = (bytes: Uint8Array) => viewOf(bytes).getBigUint64(0);

export function encodeHead(head: Head): Buffer {
  return Buffer.concat([
    encodeNumber(head.revision),
    encodeNumber(head.compactRevision),
    encodeNumber(head.nextLeaseId),
  ]);
}

export function decodeHead(bytes: Uint8Array): Head {
  const view = viewOf(bytes);
  return {
    revision: view.getBigUint64(0),
    compactRevision: view.getBigUint64(8),
    nextLeaseId: view.getBigUint64(16),
  };
}

function writeState(view: DataView, at: number, kv: KeyValue) {
  view.setBigUint64(at, kv.createRevision);
  view.setBigUint64(at + 8, kv.modRevision);
  view.setBigUint64(at + 16, kv.version);
  view.setBigUint64(at + 24, kv.lease);
}

function readState(view: DataView, at: number, key: string, value: Uint8Array): KeyValue {
  return {
    key,
    value,
    createRevision: view.getBigUint64(at),
    modRevision: view.getBigUint64(at + 8),
    version: view.getBigUint64(at + 16),
    lease: view.getBigUint64(at + 24),
  };
}

/** A current key's record: everything but the key itself, which is the record's key. */
export function encodeCurrent(kv: KeyValue): Buffer {
  const bytes = Buffer.allocUnsafe(STATE_BYTES + kv.value.length);
  writeState(viewOf(bytes), 0, kv);
  bytes.set(kv.value, STATE_BYTES);
  return bytes;
}

export function decodeCurrent(key: string, bytes: Uint8Array): KeyValue {
  return readState(viewOf(bytes), 0, key, plain(bytes, STATE_BYTES, bytes.length));
}

const stateSize = (kv: KeyValue | undefined) => (kv ? STATE_BYTES + LENGTH_BYTES + kv.value.length : 0);

export function encodeRecord(changes: readonly Change[]): Buffer {
  const keys = changes.map((change) => Buffer.from(change.key));
  let size = 0;
  for (const [index, change] of changes.entries()) {
    size +=
      1 + LENGTH_BYTES + (keys[index]?.length ?? 0) + stateSize(change.before) + stateSize(change.after);
  }
  const bytes = Buffer.allocUnsafe(size);
  const view = viewOf(bytes);
  let at = 0;
  const writeBytes = (source: Uint8Array) => {
    view.setUint32(at, source.length);
    bytes.set(source, at + LENGTH_BYTES);
    at += LENGTH_BYTES + source.length;
  };
  for (const [index, { before, after }] of changes.entries()) {
    view.setUint8(at++, (after ? HAS_AFTER : 0) | (before ? HAS_BEFORE : 0));
    writeBytes(keys[index] ?? NO_BYTES);
    for (const state of [after, before]) {
      if (!state) continue;
      writeState(view, at, state);
      at += STATE_BYTES;
      writeBytes(state.value);
    }
  }
  return bytes;
}

/** @param prefix changes of other keys are left out */
export function decodeRecord(revision: bigint, bytes: Uint8Array, prefix: string): LogRecord {
  const view = viewOf(bytes);
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const changes: Change[] = [];
  let at = 0;
  const skipBytes = () => {
    const start = at + LENGTH_BYTES;
    at = start + view.getUint32(at);
    return start;
  };
  const state = (key: string) => {
    const stateAt = at;
    at += STATE_BYTES;
    const valueAt = skipBytes();
    return readState(view, stateAt, key, plain(bytes, valueAt, at));
  };
  while (at < bytes.length) {
    const flags = view.getUint8(at++);
    const keyAt = skipBytes();
    const key = text.toString("utf8", keyAt, at);
    const after = flags & HAS_AFTER ? state(key) : undefined;
    const before = flags & HAS_BEFORE ? state(key) : undefined;
    if (key.startsWith(prefix)) changes.push({ key, before, after });
  }
  return { revision, changes };
}

/** The change as watchers see it. */
export function toEvent(revision: bigint, { key, after }: Change): StoreEvent {
  if (after) return { type: "put", kv: after };
  const kv = { key, value: NO_BYTES, createRevision: 0n, modRevision: revision, version: 0n, lease: 0n };
  return { type: "delete", kv };
}
