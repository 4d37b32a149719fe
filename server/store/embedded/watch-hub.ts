import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../../common/clock.ts";
import { createPulse } from "../../../common/pulse.ts";
import { StoreError, type StoreEvent, type WatchBatch, type WatchRequest } from "../store.ts";
import { checkPrefix } from "../validation.ts";
import { compacted } from "./batch.ts";
import type { Disk } from "./disk.ts";
import { type Head, type LogRecord, toEvent } from "./encoding.ts";
import { createRecentRecords } from "./recent-records.ts";

/** A batch ends with the revision that reaches this many events or bytes. */
const BATCH_EVENTS = 1_000;
const BATCH_BYTES = 1 << 20;

/** Log records that are looked at in one turn of the event loop when few of them match. */
const RECORDS_A_TURN = 2_000;

/**
 * Feeds the watchers. A watcher is no more than the next revision it wants: the newest records are kept in memory once
 * for all, and one that has fallen behind them reads the log on disk, so a slow one costs nothing.
 */
export interface WatchHub {
  /** Takes over what has become durable. */
  publish(records: readonly LogRecord[], head: Head): void;
  watch(request: WatchRequest, signal: AbortSignal): AsyncIterable<WatchBatch>;
  /** Ends all watches: cleanly, or with an error. */
  end(failure?: StoreError): void;
}

export function createWatchHub(disk: Disk, head: Head, clock: Clock): WatchHub {
  const recent = createRecentRecords(head.revision + 1n);
  const changed = createPulse(clock);
  let revision = head.revision;
  const end: { ended: boolean; failure: StoreError | undefined } = { ended: false, failure: undefined };

  /** The next batch, whose revision is below `fromRevision` when there is nothing yet. */
  function read(fromRevision: bigint, prefix: string): WatchBatch {
    if (fromRevision > revision) return { revision, events: [] };
    const inMemory = recent.from(fromRevision);
    if (inMemory) return collect(inMemory, fromRevision, prefix);
    const snapshot = disk.snapshot();
    try {
      const { compactRevision } = snapshot.head;
      if (fromRevision < compactRevision) throw compacted(fromRevision, compactRevision);
      return collect(snapshot.log(fromRevision, prefix), fromRevision, prefix);
    } finally {
      snapshot.release();
    }
  }

  async function* watch({ prefix, fromRevision }: WatchRequest, signal: AbortSignal) {
    checkPrefix(prefix);
    if (end.ended) throw end.failure ?? new StoreError("unavailable", "the store is closed");
    let next = fromRevision;
    let first = true;
    while (!signal.aborted && !end.ended) {
      const batch = read(next, prefix);
      if (batch.revision >= next) next = batch.revision + 1n;
      if (first || batch.events.length > 0) yield batch;
      else if (next <= revision) await nextTurn();
      else await changed.next(signal);
      first = false;
    }
    if (!signal.aborted && end.failure) throw end.failure;
  }

  return {
    publish(records, newHead) {
      for (const record of records) recent.push(record);
      recent.dropBefore(newHead.compactRevision);
      revision = newHead.revision;
      if (records.length > 0) changed.notify();
    },
    watch,
    end(failure) {
      if (!end.ended) Object.assign(end, { ended: true, failure });
      changed.notify();
    },
  };
}

function collect(records: Iterable<LogRecord>, fromRevision: bigint, prefix: string): WatchBatch {
  const events: StoreEvent[] = [];
  let revision = fromRevision - 1n;
  let bytes = 0;
  let looked = 0;
  for (const record of records) {
    revision = record.revision;
    for (const change of record.changes) {
      if (!change.key.startsWith(prefix)) continue;
      const event = toEvent(revision, change);
      events.push(event);
      bytes += event.kv.value.length;
    }
    if (events.length >= BATCH_EVENTS || bytes >= BATCH_BYTES || ++looked >= RECORDS_A_TURN) break;
  }
  return { revision, events };
}
