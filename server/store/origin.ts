import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type OriginRecord, OriginRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import type { Keys } from "./keys.ts";
import { raiseRevisions } from "./raised-revisions.ts";
import { type Store, StoreError } from "./store.ts";

/**
 * A store whose revisions go on where those of the store it was copied from ended, as its `origin` says; a store that
 * was never copied to is passed through as it is. The origin is read before the first call that needs it, so a store
 * that cannot be reached yet is `unavailable` as always.
 *
 * Every call fails with `invalid` while a copy to the store is not complete, and a watch also when one begins: whoever
 * reads on would mix revisions of before and after. Nothing but opening the store anew helps then.
 */
export function openAtOrigin(store: Store, keys: Keys): Store {
  let known: { readonly base: bigint; readonly store: Store } | undefined;

  async function load(signal: AbortSignal | undefined): Promise<Store> {
    const { kvs } = await store.range({ key: keys.origin }, signal);
    const origin = kvs[0] && fromBinary(OriginRecordSchema, kvs[0].value);
    if (origin && !origin.complete) throw incomplete(origin, keys);
    const base = origin?.revisionBase ?? 0n;
    known ??= { base, store: base === 0n ? store : raiseRevisions(store, base) };
    if (known.base !== base) throw replaced(keys);
    return known.store;
  }

  return {
    engine: store.engine,
    get maxOperations() {
      return store.maxOperations;
    },
    range: async (request, signal) => (known?.store ?? (await load(signal))).range(request, signal),
    txn: async (request, signal) => (known?.store ?? (await load(signal))).txn(request, signal),
    leaseGrant: (ttlMs, signal) => store.leaseGrant(ttlMs, signal),
    leaseKeepalive: (leaseId, signal) => store.leaseKeepalive(leaseId, signal),
    leaseRevoke: (leaseId, signal) => store.leaseRevoke(leaseId, signal),
    async *watch(request, signal) {
      // Read again each time: a copy may have begun and ended while nobody watched.
      const current = await load(signal);
      for await (const batch of current.watch(request, signal)) {
        if (batch.events.some(({ kv }) => kv.key === keys.origin)) throw replaced(keys);
        yield batch;
      }
    },
    compact: async (revision, signal) => (known?.store ?? (await load(signal))).compact(revision, signal),
    close: () => store.close(),
  };
}

export const encodeOrigin = (origin: OriginRecord): Uint8Array => toBinary(OriginRecordSchema, origin);

function incomplete({ source }: OriginRecord, { prefix }: Keys) {
  return new StoreError(
    "invalid",
    `what is under ${prefix} is a copy of ${source} that was not finished: delete it and copy again`,
  );
}

function replaced({ prefix }: Keys) {
  return new StoreError(
    "invalid",
    `another store is being copied to ${prefix}, or has been, since this one was opened`,
  );
}
