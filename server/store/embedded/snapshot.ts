import type { KeyValue } from "../store.ts";
import {
  decodeCurrent,
  decodeHead,
  decodeNumber,
  decodeRecord,
  decodeText,
  encodeNumber,
  FIRST_HEAD,
  type Head,
  type LogRecord,
} from "./encoding.ts";
import { HEAD_KEY, type Tables } from "./tables.ts";

/** One unchanging state of the files. The pages it needs are kept until it is released: release it soon. */
export interface Snapshot {
  readonly head: Head;
  get(key: string): KeyValue | undefined;
  /** Keys with the prefix and greater than `after`, in order, at most `limit`. */
  scan(prefix: string, after: string | undefined, limit: number): KeyValue[];
  /** Log records from a revision on, in order, without the changes of keys outside the prefix. Iterate in one go. */
  log(fromRevision: bigint, prefix: string): Iterable<LogRecord>;
  release(): void;
}

export function createSnapshot({ root, meta, current, log }: Tables): Snapshot {
  const transaction = root.useReadTransaction();
  const head = meta.get(HEAD_KEY, { transaction });
  return {
    head: head ? decodeHead(head) : FIRST_HEAD,
    get(key) {
      const bytes = current.get(Buffer.from(key), { transaction });
      return bytes && decodeCurrent(key, bytes);
    },
    scan(prefix, after, limit) {
      const kvs: KeyValue[] = [];
      for (const { key, value } of current.getRange({ transaction, limit, ...keyRange(prefix, after) })) {
        kvs.push(decodeCurrent(decodeText(key), value));
      }
      return kvs;
    },
    *log(fromRevision, prefix) {
      for (const { key, value } of log.getRange({ transaction, start: encodeNumber(fromRevision) })) {
        yield decodeRecord(decodeNumber(key), value, prefix);
      }
    },
    release: () => transaction.done(),
  };
}

/** The byte range of the keys with a prefix that come after a key. */
function keyRange(prefix: string, after: string | undefined): { start?: Buffer; end?: Buffer } {
  const first = Buffer.from(prefix);
  // The smallest key above another is that key with a zero byte behind it.
  const next = after === undefined ? first : Buffer.concat([Buffer.from(after), Buffer.of(0)]);
  const start = Buffer.compare(first, next) > 0 ? first : next;
  if (prefix === "") return start.length > 0 ? { start } : {};
  // UTF-8 has no byte 0xff, so adding one to the last byte never overflows.
  const end = Buffer.from(first);
  end[end.length - 1] = (end.at(-1) ?? 0) + 1;
  return { start, end };
}
