import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ConferenceRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { createKeys, type Keys } from "./keys.ts";
import type { OpenedStore } from "./open-store.ts";
import type { KeyValue } from "./store.ts";

/** Something to copy: its key without the prefix, and the value it is to have. */
export interface CopyItem {
  readonly path: string;
  readonly kind: "conference" | "server" | "other";
  readonly value: Uint8Array;
  readonly isChanged: boolean;
}

/** Keeps an answer well below the 4 MiB that gRPC takes, at a few kilobytes a key. */
export const PAGE_KEYS = 500;

/** What is to be copied, in order of keys. */
export async function* itemsOf(
  source: OpenedStore,
  revision: bigint | undefined,
  signal: AbortSignal,
  left = { leased: 0 },
): AsyncGenerator<CopyItem, void> {
  const keys = createKeys(source.prefix);
  for await (const kv of keysOf(source, revision, signal)) {
    if (kv.lease !== 0n) left.leased += 1;
    else if (kv.key !== keys.round && kv.key !== keys.origin) yield itemOf(kv, keys);
  }
}

function itemOf(kv: KeyValue, keys: Keys): CopyItem {
  const path = kv.key.slice(keys.prefix.length);
  const kind = keys.parse(kv.key)?.kind;
  if (kind === "server") return { path, kind, value: kv.value, isChanged: false };
  if (kind !== "conference") return { path, kind: "other", value: kv.value, isChanged: false };
  const record = fromBinary(ConferenceRecordSchema, kv.value);
  const claim = record.conference?.claim;
  if (claim?.dispatchEpoch !== 0n) return { path, kind, value: kv.value, isChanged: false };
  claim.dispatchEpoch = kv.modRevision;
  return { path, kind, value: toBinary(ConferenceRecordSchema, record), isChanged: true };
}

/** Everything under the prefix at one revision, the newest unless given. */
export async function* keysOf(
  { store, prefix }: OpenedStore,
  revision: bigint | undefined,
  signal: AbortSignal,
): AsyncGenerator<KeyValue, undefined, void> {
  let at = revision;
  for (let after: string | undefined; ; ) {
    const page = await store.range(
      {
        prefix,
        limit: PAGE_KEYS,
        ...(at === undefined ? {} : { revision: at }),
        ...(after === undefined ? {} : { after }),
      },
      signal,
    );
    yield* page.kvs;
    at = page.revision;
    after = page.kvs.at(-1)?.key;
    if (!page.more || after === undefined) return undefined;
  }
}

/** In bytes. */
export const sizeOf = ({ path, value }: CopyItem) => Buffer.byteLength(path) + value.length;
