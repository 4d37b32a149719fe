import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { OriginRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { type ConditionalWrite, type Fence, writeBatch } from "./conditional-writes.ts";
import { type CopyItem, itemsOf, keysOf, PAGE_KEYS, sizeOf } from "./copy-items.ts";
import { createKeys, type Keys } from "./keys.ts";
import type { OpenedStore } from "./open-store.ts";
import { encodeOrigin } from "./origin.ts";

export interface StoreCopyOptions {
  /** Nobody may write to it during the copy, nor serve from it afterwards. */
  readonly source: OpenedStore;
  /** As opened, without any key under its prefix. */
  readonly target: OpenedStore;
  /** The source's location, kept in the target for people. */
  readonly sourceName: string;
  /** Unique to this copy. */
  readonly attemptId: string;
  /** The wall clock. */
  readonly nowMs: number;
  /** Told after each batch how many keys have been copied, and then compared. */
  onProgress?(phase: "copied" | "compared", keys: number): void;
}

/** What was copied, and found equal when both were read back. */
export interface StoreCopy {
  /** The source's revision that was copied. Every revision of the target is higher. */
  readonly revision: bigint;
  readonly conferences: number;
  readonly servers: number;
  /** Reservations, and keys of releases that this one does not know. */
  readonly others: number;
  /** Records whose claim was given the dispatch epoch that had been the revision of their key. */
  readonly claimsMadeExplicit: number;
  /** Registrations and observations, which lie on leases; dispatchers register anew. */
  readonly leasedKeysLeft: number;
  /** In bytes, of keys without their prefix and values. */
  readonly size: number;
  /** In hexadecimal, of all keys without their prefix and values, as read back from the target. */
  readonly sha256: string;
}

/** Why a store was not copied. */
export class StoreCopyError extends Error {
  override readonly name = "StoreCopyError";
  /** `refused`: nothing was done. `incomplete`: the target has part of it, and is marked so that nobody serves from it. */
  readonly code: "refused" | "incomplete";

  constructor(code: "refused" | "incomplete", message: string, options?: { cause: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Keeps a transaction below etcd's 1.5 MiB a request. */
const BATCH_BYTES = 1024 * 1024;

/** A fence and this many keys are etcd's default of 128 operations. */
const BATCH_KEYS = 127;

/** Hides one another's wait for the disk; more of them bring little. */
const BATCHES_IN_FLIGHT = 4;

/**
 * Copies a deployment to another store, of any engine, at one revision; then reads both back and compares them.
 *
 * Revisions cannot be copied, and several things are revisions. The target gets the source's revision as the base of its
 * own (`openAtOrigin`), so epochs, rounds, etags and places in a watch only rise. A claim whose dispatch epoch is its
 * key's revision gets it written out, the one change to a value. Keys on leases and the current round are left behind:
 * dispatchers register anew, under higher epochs, and what they had claimed waits again.
 *
 * The target is marked incomplete by the first transaction and complete by the last.
 *
 * @throws {StoreCopyError}
 * @throws {StoreError} when a store fails before anything was written
 */
export async function copyStore(options: StoreCopyOptions, signal: AbortSignal): Promise<StoreCopy> {
  const { target, sourceName, attemptId, nowMs } = options;
  const keys = createKeys(target.prefix);
  const revision = await checkBoth(options, signal);
  const origin = create(OriginRecordSchema, {
    revisionBase: revision,
    source: sourceName,
    beginTimeMs: BigInt(nowMs),
    attemptId,
  });
  const writeOrigin = async (modRevision: bigint) => {
    const write = { key: keys.origin, modRevision, value: encodeOrigin(origin) };
    const result = await writeBatch(target.store, [], [write], signal);
    if (result.fenced || !result.written.has(keys.origin)) throw taken(keys);
    return result.revision;
  };
  try {
    const begun = await writeOrigin(0n);
    await copyItems(options, revision, { key: keys.origin, modRevision: begun }, signal);
    const copied = await compareBoth(options, signal);
    origin.complete = true;
    await writeOrigin(begun);
    return { revision, ...copied };
  } catch (err) {
    const reason = err instanceof Error ? err.message : String(err);
    throw new StoreCopyError("incomplete", reason, { cause: err });
  }
}

/** Returns the revision to copy at. */
async function checkBoth({ source, target }: StoreCopyOptions, signal: AbortSignal): Promise<bigint> {
  const { revision, kvs } = await source.store.range({ prefix: source.prefix, limit: 1 }, signal);
  if (kvs.length === 0) throw refused(`there is nothing under ${source.prefix} in the source`);
  if (source.store.engine !== "embedded") {
    const registrations = createKeys(source.prefix).dispatcher("");
    const registered = await source.store.range({ prefix: registrations, limit: 1 }, signal);
    // The embedded engine has one user, who is us; its leases stand still while nobody has it open.
    if (registered.kvs[0])
      throw refused(
        `the source is in use: dispatcher ${registered.kvs[0].key.slice(registrations.length)} is registered there; ` +
          "when every replica is stopped, its registration ends by itself within its time to live",
      );
  }
  const found = await target.store.range({ prefix: target.prefix, limit: 1 }, signal);
  if (found.kvs[0])
    throw refused(
      `the target is not empty: it has ${found.kvs[0].key}; name another prefix, or delete what is there`,
    );
  return revision;
}

async function copyItems(
  { source, target, onProgress }: StoreCopyOptions,
  revision: bigint,
  fence: Fence,
  signal: AbortSignal,
) {
  let copied = 0;
  const inFlight = new Set<Promise<void>>();
  const write = async (items: readonly CopyItem[]) => {
    const writes = items.map(
      ({ path, value }): ConditionalWrite => ({ key: target.prefix + path, modRevision: 0n, value }),
    );
    const result = await writeBatch(target.store, [fence], writes, signal);
    if (result.fenced || result.written.size < writes.length) throw taken(createKeys(target.prefix));
    copied += items.length;
    onProgress?.("copied", copied);
  };
  try {
    for await (const batch of batchesOf(itemsOf(source, revision, signal))) {
      const writing = write(batch);
      inFlight.add(writing);
      writing.then(
        () => inFlight.delete(writing),
        () => {},
      );
      if (inFlight.size >= BATCHES_IN_FLIGHT) await Promise.race(inFlight);
    }
    await Promise.all(inFlight);
  } finally {
    await Promise.allSettled(inFlight);
  }
}

async function* batchesOf(items: AsyncIterable<CopyItem>): AsyncGenerator<readonly CopyItem[]> {
  let batch: CopyItem[] = [];
  let size = 0;
  for await (const item of items) {
    const itemSize = sizeOf(item);
    if (batch.length === BATCH_KEYS || (batch.length > 0 && size + itemSize > BATCH_BYTES)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(item);
    size += itemSize;
  }
  if (batch.length > 0) yield batch;
}

/** Reads both anew, in step, at their newest revisions: a write to either since the copy shows. */
async function compareBoth(
  { source, target, onProgress }: StoreCopyOptions,
  signal: AbortSignal,
): Promise<Omit<StoreCopy, "revision">> {
  const left = { leased: 0 };
  const wanted = itemsOf(source, undefined, signal, left);
  const found = keysOf(target, undefined, signal);
  const { origin } = createKeys(target.prefix);
  const nextFound = async () => {
    let next = await found.next();
    if (!next.done && next.value.key === origin) next = await found.next();
    return next.value;
  };
  const hash = createHash("sha256");
  const counts = { conference: 0, server: 0, other: 0 };
  let changed = 0;
  let size = 0;
  try {
    for await (const item of wanted) {
      const kv = await nextFound();
      const path = kv?.key.slice(target.prefix.length);
      if (!kv || path !== item.path || Buffer.compare(kv.value, item.value) !== 0 || kv.lease !== 0n)
        throw new Error(
          `the copy is not equal to the source at ${item.path}: one of them was written to meanwhile`,
        );
      hashInto(hash, Buffer.from(path));
      hashInto(hash, kv.value);
      counts[item.kind] += 1;
      if (item.isChanged) changed += 1;
      size += sizeOf(item);
      const compared = counts.conference + counts.server + counts.other;
      if (compared % PAGE_KEYS === 0) onProgress?.("compared", compared);
    }
    const surplus = await nextFound();
    if (surplus) throw new Error(`the target has ${surplus.key}, which the copy did not write`);
  } finally {
    await found.return(undefined);
  }
  return {
    conferences: counts.conference,
    servers: counts.server,
    others: counts.other,
    claimsMadeExplicit: changed,
    leasedKeysLeft: left.leased,
    size,
    sha256: hash.digest("hex"),
  };
}

/** With the length before it, so that no two lists of keys and values hash alike. */
function hashInto(hash: ReturnType<typeof createHash>, content: Uint8Array) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  hash.update(length).update(content);
}

const refused = (message: string) => new StoreCopyError("refused", message);

const taken = ({ prefix }: Keys) => new Error(`somebody else writes to ${prefix} in the target`);
