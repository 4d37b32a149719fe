import {
  type Compare,
  type KeyValue,
  type Operation,
  type Store,
  StoreError,
  type TxnResult,
} from "./store.ts";

/** A write that happens only when the key is still at the revision that its content was decided on. */
export interface ConditionalWrite {
  readonly key: string;
  /** The key's modRevision; 0n when it must not exist. */
  readonly modRevision: bigint;
  /** The new content, which must differ from any other attempt's (an attempt id in it); undefined deletes the key. */
  readonly value: Uint8Array | undefined;
  /** Puts the key on a lease. */
  readonly lease?: bigint;
}

/** A condition for the whole batch; with a value, its key is rewritten with the batch. */
export type Fence = Compare & { readonly value?: Uint8Array };

/** What became of a batch. */
export type WriteResult =
  /** The keys that were written, all at `revision`. The others had changed before. */
  | { readonly fenced: false; readonly written: ReadonlySet<string>; readonly revision: bigint }
  /** These fences did not hold, as found at `revision`: nothing was written. */
  | { readonly fenced: true; readonly broken: readonly string[]; readonly revision: bigint };

/** An outcome that stays unknown this often means that the store is not well. */
const MAX_UNKNOWN = 4;

/**
 * Writes a batch of at most `store.maxOperations - fences.length` keys in one transaction: all of those whose condition
 * holds, provided that every fence holds. When some conditions fail, the transaction's other branch tells which, and the
 * rest is written at once: one more round trip instead of a search by halves.
 *
 * A store that turns out to take fewer operations gets the batch in several transactions, unless a fence has a value,
 * which has to be written once and with everything. When a fence breaks between them, what was written is the result.
 *
 * Repeating a transaction whose outcome is unknown is safe here, and only here: its conditions name revisions, so it
 * takes effect at most once, and content unique to the attempt tells a landed write from another's.
 *
 * @throws {StoreError} as `Store.txn`; after `unknown_outcome` the batch may or may not have been written, or in part;
 * after any other, nothing was written
 */
export async function writeBatch(
  store: Store,
  fences: readonly Fence[],
  writes: readonly ConditionalWrite[],
  signal?: AbortSignal,
): Promise<WriteResult> {
  const isDivisible = !fences.some(({ value }) => value);
  const fitting = () => (isDivisible ? Math.max(1, store.maxOperations - fences.length) : writes.length);
  const written = new Set<string>();
  let revision = 0n;
  for (let rest = writes; rest.length > 0; ) {
    const part = rest.slice(0, fitting());
    try {
      const result = await writePart(store, fences, part, signal);
      if (result.fenced) return written.size > 0 ? { fenced: false, written, revision } : result;
      for (const key of result.written) written.add(key);
      revision = result.revision;
      rest = rest.slice(part.length);
    } catch (err) {
      if (err instanceof StoreError && err.code === "too_many_operations" && fitting() < part.length)
        continue;
      if (written.size > 0) throw new StoreError("unknown_outcome", "part of it was written", { cause: err });
      throw err;
    }
  }
  return { fenced: false, written, revision };
}

/** Writes in one transaction, repeated until its outcome is known. */
async function writePart(
  store: Store,
  fences: readonly Fence[],
  writes: readonly ConditionalWrite[],
  signal?: AbortSignal,
): Promise<WriteResult> {
  let pending = writes;
  let revision = 0n;
  let unknown = 0;
  while (pending.length > 0) {
    const keys = [...fences, ...pending].map(({ key }) => key);
    const reads = keys.map((key) => ({ get: { key } }));
    const compare = [
      ...fences.map(conditionOf),
      ...pending.map(({ key, modRevision }) => ({ key, modRevision })),
    ];
    const then = [...fences.filter(({ value }) => value), ...pending].map(operationOf);
    let result: TxnResult;
    let refusal: StoreError | undefined;
    try {
      result = await store.txn({ compare, then, else: reads }, signal);
    } catch (err) {
      if (!(err instanceof StoreError)) throw err;
      if (err.code === "unknown_outcome") {
        unknown += 1;
        if (unknown === MAX_UNKNOWN) throw err;
        continue;
      }
      if (err.code === "no_space") {
        result = await readAfter(err, store, reads, signal);
        refusal = err;
      }
      // That this try did nothing says nothing of the one before.
      else if (unknown > 0) throw unknownAfter(err);
      else throw err;
    }
    revision = result.revision;
    if (result.succeeded && !refusal) {
      return { fenced: false, written: new Set(pending.map(({ key }) => key)), revision };
    }
    const current = new Map(keys.map((key, index) => [key, result.gets[index]?.[0]]));
    // All of a transaction lands or none: one write of ours in the store says that an earlier try had landed.
    const landed = pending.filter(({ key, value }) => isSame(value, current.get(key)));
    const [first] = landed;
    if (first) {
      revision = current.get(first.key)?.modRevision ?? revision;
      return { fenced: false, written: new Set(landed.map(({ key }) => key)), revision };
    }
    if (refusal) throw unknown > 0 ? unknownAfter(refusal) : refusal;
    const broken = fences.filter((fence) => !holds(fence, current.get(fence.key))).map(({ key }) => key);
    if (broken.length > 0) return { fenced: true, broken, revision };
    pending = pending.filter((write) => holds(write, current.get(write.key)));
  }
  return { fenced: false, written: new Set(), revision };
}

/** Looks whether a write took effect that was refused for want of space: etcd says so of the one that filled it, too. */
async function readAfter(
  refusal: StoreError,
  store: Store,
  reads: readonly Operation[],
  signal?: AbortSignal,
): Promise<TxnResult> {
  try {
    return await store.txn({ compare: [], then: reads }, signal);
  } catch {
    throw unknownAfter(refusal);
  }
}

const unknownAfter = (cause: StoreError) =>
  new StoreError("unknown_outcome", "an earlier try may have been written", { cause });

function operationOf(
  write: Pick<ConditionalWrite, "key" | "lease"> & { value?: Uint8Array | undefined },
): Operation {
  const { key, value, lease } = write;
  if (!value) return { delete: { key } };
  return { put: lease === undefined ? { key, value } : { key, value, lease } };
}

function conditionOf(fence: Fence): Compare {
  const { key } = fence;
  return "createRevision" in fence
    ? { key, createRevision: fence.createRevision }
    : { key, modRevision: fence.modRevision };
}

function holds(condition: Compare, kv: KeyValue | undefined): boolean {
  if ("createRevision" in condition) return (kv?.createRevision ?? 0n) === condition.createRevision;
  return (kv?.modRevision ?? 0n) === condition.modRevision;
}

function isSame(value: Uint8Array | undefined, kv: KeyValue | undefined): boolean {
  return value !== undefined && kv !== undefined && Buffer.compare(value, kv.value) === 0;
}
