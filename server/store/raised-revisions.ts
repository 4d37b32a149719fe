import {
  type Compare,
  type KeyValue,
  type Store,
  StoreError,
  type TxnRequest,
  type TxnResult,
  type WatchBatch,
} from "./store.ts";

/** A revision that no key ever has: a comparison with it does not hold. */
const NEVER = -1n;

/**
 * The same store with every revision `base` higher, as if `base` revisions had gone before its first one and been
 * compacted since. It keeps the promises of `Store`.
 */
export function raiseRevisions(store: Store, base: bigint): Store {
  const up = (revision: bigint) => (revision === 0n ? 0n : revision + base);
  const raised = (kv: KeyValue): KeyValue => ({
    ...kv,
    createRevision: up(kv.createRevision),
    modRevision: up(kv.modRevision),
  });
  let closed = false;
  const down = (revision: bigint) => {
    // A store that is closed says so itself.
    if (revision > base || closed) return revision - base;
    throw new StoreError("compacted", `revision ${revision} is from before the store's first, ${base + 1n}`, {
      compactRevision: base + 1n,
    });
  };
  const compared = (revision: bigint) => {
    if (revision === 0n) return 0n;
    return revision > base ? revision - base : NEVER;
  };
  const lowered = (compare: Compare): Compare =>
    "createRevision" in compare
      ? { key: compare.key, createRevision: compared(compare.createRevision) }
      : { key: compare.key, modRevision: compared(compare.modRevision) };
  const raisedError = (err: unknown) =>
    err instanceof StoreError && err.compactRevision !== undefined
      ? new StoreError(err.code, err.message, { cause: err, compactRevision: up(err.compactRevision) })
      : err;

  return {
    engine: store.engine,
    get maxOperations() {
      return store.maxOperations;
    },
    async range(request, signal) {
      const { revision: asked } = request;
      const inner = asked === undefined ? request : { ...request, revision: down(asked) };
      try {
        const { revision, kvs, more } = await store.range(inner, signal);
        return { revision: revision + base, kvs: kvs.map(raised), more };
      } catch (err) {
        throw raisedError(err);
      }
    },
    async txn(request: TxnRequest, signal): Promise<TxnResult> {
      const inner = { ...request, compare: request.compare.map(lowered) };
      const { succeeded, revision, gets } = await store.txn(inner, signal);
      return { succeeded, revision: revision + base, gets: gets.map((kvs) => kvs.map(raised)) };
    },
    leaseGrant: (ttlMs, signal) => store.leaseGrant(ttlMs, signal),
    leaseKeepalive: (leaseId, signal) => store.leaseKeepalive(leaseId, signal),
    leaseRevoke: (leaseId, signal) => store.leaseRevoke(leaseId, signal),
    async *watch({ prefix, fromRevision }, signal) {
      const inner = { prefix, fromRevision: down(fromRevision) };
      try {
        for await (const { revision, events } of store.watch(inner, signal)) {
          const batch: WatchBatch = {
            revision: revision + base,
            events: events.map(({ type, kv }) => ({ type, kv: raised(kv) })),
          };
          yield batch;
        }
      } catch (err) {
        throw raisedError(err);
      }
    },
    async compact(revision, signal) {
      const inner = down(revision);
      try {
        await store.compact(inner, signal);
      } catch (err) {
        throw raisedError(err);
      }
    },
    close() {
      closed = true;
      return store.close();
    },
  };
}
