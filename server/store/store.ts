/**
 * The store: what the control plane needs of etcd v3, and nothing wider. Two engines provide it, and one conformance
 * suite (`test/conformance`) says what they promise.
 *
 * Every write has a revision, a number that rises by one with each successful transaction that writes; all writes of
 * one transaction share it. Revisions and lease IDs are bigints, as on the wire.
 *
 * Keys are compared as UTF-8 bytes, and have 1 to 1,024 of them; others, and prefixes longer than that, are `invalid`.
 *
 * A call whose signal aborts rejects at once: with `unavailable` when it did nothing, with `unknown_outcome` when it may
 * still be done.
 */
export interface Store {
  /** A name for logs and metrics: `embedded` or `etcd`. */
  readonly engine: string;

  /**
   * Reads keys in order, all at one revision, after every write acknowledged before the call (linearizable).
   *
   * @throws {StoreError} `compacted` when `revision` is no longer kept, `future_revision` when it does not exist yet,
   * `unavailable` when the store cannot answer, `invalid`.
   */
  range(request: RangeRequest, signal?: AbortSignal): Promise<RangeResult>;

  /**
   * Compares and then writes one branch, atomically; acknowledged once it is durable. A transaction without writes does
   * not take a revision, nor does one that only deletes keys that do not exist. Operations run in order, and a `get` sees
   * the writes before it. No key may be written twice in one branch, whichever runs.
   *
   * @throws {StoreError} `too_many_operations` above `maxOperations` of compares or of either branch,
   * `lease_not_found` when a put names a lease that is gone (nothing was written), `invalid` for a key written twice,
   * `unavailable` when nothing was written, `unknown_outcome` when it may or may not have been, `no_space` when the store
   * is full: then nothing was written either, except perhaps by the very transactions that filled it.
   */
  txn(request: TxnRequest, signal?: AbortSignal): Promise<TxnResult>;

  /**
   * How many compares, and how many operations in either branch, one transaction may have. etcd's default is 128. May
   * sink when a cluster refuses fewer with `too_many_operations`; it is what the cluster takes by the time of that error.
   */
  readonly maxOperations: number;

  /**
   * Grants a lease. The granted TTL may exceed the one asked for.
   * @throws {StoreError} `no_space`, `unavailable`, `unknown_outcome`, `invalid` for a TTL that is not above 0
   */
  leaseGrant(ttlMs: number, signal?: AbortSignal): Promise<LeaseGrant>;

  /**
   * Renews a lease for its whole TTL.
   * @throws {StoreError} `lease_not_found` when it is gone, `unavailable`, `unknown_outcome`
   */
  leaseKeepalive(leaseId: bigint, signal?: AbortSignal): Promise<LeaseGrant>;

  /**
   * Ends a lease and deletes its keys in one revision. Succeeds when the lease is already gone.
   * @throws {StoreError} `no_space`, `unavailable`, `unknown_outcome`
   */
  leaseRevoke(leaseId: bigint, signal?: AbortSignal): Promise<void>;

  /**
   * Yields every change under `prefix` from `fromRevision` (inclusive) on: in order, each exactly once, all events of a
   * revision in one batch. A batch may hold several revisions, and may be empty to report progress: everything up to
   * its `revision` has been yielded. The first batch is yielded without waiting for a change. Ends when the signal
   * aborts or the store is closed; its buffer is bounded, and it slows down with its consumer.
   *
   * @throws {StoreError} `compacted` with `compactRevision` when `fromRevision` is no longer kept, `unavailable`
   */
  watch(request: WatchRequest, signal: AbortSignal): AsyncIterable<WatchBatch>;

  /**
   * Forgets the history before `revision`: ranges and watches from below it fail with `compacted`. Current keys stay.
   * @throws {StoreError} `compacted`, `future_revision`, `no_space`, `unavailable`, `unknown_outcome`
   */
  compact(revision: bigint, signal?: AbortSignal): Promise<void>;

  /** Waits for what is under way, refuses what comes later with `unavailable`, and frees everything. */
  close(): Promise<void>;
}

/** Which keys: one, or all with a prefix (the empty prefix means every key). */
export type KeySelector = { readonly key: string } | { readonly prefix: string };

export type RangeRequest = KeySelector & {
  /** Reads as of this revision; the newest when absent. */
  readonly revision?: bigint;
  /** Continues after this key; for paging through a prefix. */
  readonly after?: string;
  /** At most this many, at least 1; all when absent. */
  readonly limit?: number;
};

export interface RangeResult {
  /** The revision that was read. */
  readonly revision: bigint;
  readonly kvs: readonly KeyValue[];
  /** Whether the limit cut the answer short. */
  readonly more: boolean;
}

export interface KeyValue {
  readonly key: string;
  readonly value: Uint8Array;
  /** The revision of the put that created the key. A key that is deleted and put again is created anew. */
  readonly createRevision: bigint;
  /** The revision of the newest put. */
  readonly modRevision: bigint;
  /** How many puts since it was created, from 1. */
  readonly version: bigint;
  /** The lease it is on; 0n when on none. */
  readonly lease: bigint;
}

/** A condition on one key. A key that does not exist has both revisions 0n. */
export type Compare =
  | { readonly key: string; readonly createRevision: bigint }
  | { readonly key: string; readonly modRevision: bigint };

export type Operation =
  | { readonly put: { readonly key: string; readonly value: Uint8Array; readonly lease?: bigint } }
  | { readonly delete: { readonly key: string } }
  | { readonly get: KeySelector };

export interface TxnRequest {
  /** All must hold for `then`; an empty list holds. */
  readonly compare: readonly Compare[];
  readonly then: readonly Operation[];
  /** Run when a compare does not hold. */
  readonly else?: readonly Operation[];
}

export interface TxnResult {
  /** Whether `then` was run. */
  readonly succeeded: boolean;
  /** The store's revision after the transaction: that of its writes, when it wrote. */
  readonly revision: bigint;
  /** One for each `get` of the branch that was run, in order. */
  readonly gets: readonly (readonly KeyValue[])[];
}

export interface LeaseGrant {
  /** Never 0n. */
  readonly leaseId: bigint;
  /** The granted time to live, in milliseconds. */
  readonly ttlMs: number;
}

export interface WatchRequest {
  /** The empty prefix means every key. */
  readonly prefix: string;
  /** The first revision to deliver. */
  readonly fromRevision: bigint;
}

export interface WatchBatch {
  /** Everything up to and including this revision has been yielded. */
  readonly revision: bigint;
  readonly events: readonly StoreEvent[];
}

/** A change of a key. For a delete, `kv` has the key, an empty value and the revision of the delete as modRevision. */
export interface StoreEvent {
  readonly type: "put" | "delete";
  readonly kv: KeyValue;
}

export type StoreErrorCode =
  | "unavailable"
  | "unknown_outcome"
  | "compacted"
  | "future_revision"
  | "lease_not_found"
  | "too_many_operations"
  | "no_space"
  | "invalid";

/** The one error of the store. Tell errors apart by `code`, never by their text. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  /** With `compacted`: the oldest revision that can be watched from. */
  readonly compactRevision?: bigint;

  constructor(
    code: StoreErrorCode,
    message: string,
    options?: { cause?: unknown; compactRevision?: bigint },
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options?.compactRevision !== undefined) this.compactRevision = options.compactRevision;
  }
}
