import type { KeyValue, Store, StoreEvent, TxnResult, WatchBatch } from "../../server/store/store.ts";
import { within } from "../support/deadline.ts";

/** What an engine provides to be put through the suite. */
export interface StoreHarness {
  /** Opens the store on the harness's own data, empty at first. One at a time. */
  open(): Promise<Store>;
  /** Lets time pass for leases: moves the engine's clock on, or sleeps where it has none of its own. */
  passTime(ms: number): Promise<void>;
  /** Closes what is open and deletes the data. */
  dispose(): Promise<void>;
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

export const text = (kv: KeyValue | undefined): string | undefined =>
  kv && new TextDecoder().decode(kv.value);

/** Key and value of each, to compare at a glance. */
export const pairs = (kvs: readonly KeyValue[]) => kvs.map((kv) => [kv.key, text(kv)]);

export const describeEvent = ({ type, kv }: StoreEvent) =>
  type === "put" ? `put ${kv.key}=${text(kv)}@${kv.modRevision}` : `delete ${kv.key}@${kv.modRevision}`;

export function put(store: Store, key: string, value: string, lease?: bigint): Promise<TxnResult> {
  const operation = { key, value: bytes(value), ...(lease === undefined ? {} : { lease }) };
  return store.txn({ compare: [], then: [{ put: operation }] });
}

export const remove = (store: Store, key: string): Promise<TxnResult> =>
  store.txn({ compare: [], then: [{ delete: { key } }] });

export async function get(store: Store, key: string, revision?: bigint): Promise<KeyValue | undefined> {
  const { kvs } = await store.range({ key, ...(revision === undefined ? {} : { revision }) });
  return kvs[0];
}

export const currentRevision = async (store: Store) => (await store.range({ key: "none" })).revision;

/** Takes batches until everything up to a revision has been yielded. */
export async function watchTo(
  store: Store,
  prefix: string,
  fromRevision: bigint,
  toRevision: bigint,
): Promise<WatchBatch[]> {
  const controller = new AbortController();
  const batches: WatchBatch[] = [];
  const watching = (async () => {
    for await (const batch of store.watch({ prefix, fromRevision }, controller.signal)) {
      batches.push(batch);
      if (batch.revision >= toRevision) break;
    }
  })();
  try {
    await within(`watching ${prefix} to ${toRevision}`, watching);
  } finally {
    controller.abort();
  }
  return batches;
}

export const eventsOf = (batches: readonly WatchBatch[]) => batches.flatMap((batch) => batch.events);

/** Takes everything until the end. */
export async function drain(watch: AsyncIterable<WatchBatch>): Promise<WatchBatch[]> {
  const batches: WatchBatch[] = [];
  const draining = (async () => {
    for await (const batch of watch) batches.push(batch);
  })();
  await within("the end of the watch", draining);
  return batches;
}
