import type { LogRecord } from "./encoding.ts";

/** In records and in bytes, roughly: enough for every watcher that is not stuck, little beside the process. */
const MAX_RECORDS = 10_000;
const MAX_BYTES = 16 << 20;

/** The newest log records, without a gap, in bounded memory. */
export interface RecentRecords {
  push(record: LogRecord): void;
  /** Forgets the records below a revision. */
  dropBefore(revision: bigint): void;
  /** The records from a revision on, or `undefined` when that one is not among them any more. */
  from(revision: bigint): Iterable<LogRecord> | undefined;
}

/** @param firstRevision the revision of the first record that will be pushed */
export function createRecentRecords(firstRevision: bigint): RecentRecords {
  let records: LogRecord[] = [];
  /** Where the kept ones begin: dropping one by one from the front of an array would cost its length each time. */
  let start = 0;
  let first = firstRevision;
  let bytes = 0;

  function drop() {
    const record = records[start];
    if (!record) return;
    bytes -= weigh(record);
    start++;
    first++;
    if (start * 2 > records.length) {
      records = records.slice(start);
      start = 0;
    }
  }

  return {
    push(record) {
      records.push(record);
      bytes += weigh(record);
      while (records.length - start > 1 && (records.length - start > MAX_RECORDS || bytes > MAX_BYTES))
        drop();
    },
    dropBefore(revision) {
      while (first < revision && start < records.length) drop();
    },
    from(revision) {
      if (revision < first) return undefined;
      return iterate(records, start + Number(revision - first));
    },
  };
}

function* iterate(records: readonly LogRecord[], from: number) {
  for (let index = from; index < records.length; index++) {
    const record = records[index];
    if (record) yield record;
  }
}

function weigh({ changes }: LogRecord): number {
  let bytes = 0;
  for (const { key, after, before } of changes) {
    bytes += key.length + (after?.value.length ?? 0) + (before?.value.length ?? 0);
  }
  return bytes;
}
