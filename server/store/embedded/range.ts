import { setImmediate as nextTurn } from "node:timers/promises";
import { type KeyValue, type RangeRequest, type RangeResult, StoreError } from "../store.ts";
import { compacted, layOver } from "./batch.ts";
import type { Snapshot } from "./snapshot.ts";

/** Keys or log records read in one turn of the event loop: about a millisecond, so that other calls are not held up. */
const READ_STEP = 1_000;

/**
 * Reads the keys of a snapshot, or of an older revision: those of the snapshot with all newer changes undone.
 *
 * @param proceed throws when the read is to be given up; called after each turn of the event loop
 * @throws {StoreError} `compacted`, `future_revision`
 */
export async function readRange(
  snapshot: Snapshot,
  request: RangeRequest,
  proceed: () => void,
): Promise<RangeResult> {
  const newest = snapshot.head.revision;
  const { revision = newest, after, limit = Number.POSITIVE_INFINITY } = request;
  if (revision > newest) {
    throw new StoreError("future_revision", `revision ${revision} does not exist, the newest is ${newest}`);
  }
  if (revision < snapshot.head.compactRevision) throw compacted(revision, snapshot.head.compactRevision);

  const isWanted = (key: string) =>
    ("key" in request ? key === request.key : key.startsWith(request.prefix)) &&
    (after === undefined || Buffer.compare(Buffer.from(key), Buffer.from(after)) > 0);
  const prefix = "key" in request ? request.key : request.prefix;
  const undone = revision === newest ? new Map() : await undo(snapshot, revision, prefix, isWanted, proceed);

  if ("key" in request) {
    const { key } = request;
    const kv = !isWanted(key) ? undefined : undone.has(key) ? undone.get(key) : snapshot.get(key);
    return { revision, kvs: kv ? [kv] : [], more: false };
  }
  // Each undone key may take one away, and one more than the limit tells whether there is more.
  const kvs = await scan(snapshot, prefix, after, limit + 1 + undone.size, proceed);
  const merged = undone.size > 0 ? layOver(kvs, undone, prefix) : kvs;
  return { revision, kvs: merged.slice(0, limit), more: merged.length > limit };
}

async function scan(
  snapshot: Snapshot,
  prefix: string,
  after: string | undefined,
  limit: number,
  proceed: () => void,
): Promise<KeyValue[]> {
  const kvs: KeyValue[] = [];
  for (let last = after; ; ) {
    const step = Math.min(READ_STEP, limit - kvs.length);
    const page = snapshot.scan(prefix, last, step);
    kvs.push(...page);
    if (page.length < step || kvs.length >= limit) return kvs;
    last = page.at(-1)?.key;
    await nextTurn();
    proceed();
  }
}

/** The state of each key at `revision` that was changed later. */
async function undo(
  snapshot: Snapshot,
  revision: bigint,
  prefix: string,
  isWanted: (key: string) => boolean,
  proceed: () => void,
): Promise<Map<string, KeyValue | undefined>> {
  const states = new Map<string, KeyValue | undefined>();
  for (let next = revision + 1n; next <= snapshot.head.revision; ) {
    let looked = 0;
    for (const record of snapshot.log(next, prefix)) {
      for (const { key, before } of record.changes) {
        if (!states.has(key) && isWanted(key)) states.set(key, before);
      }
      next = record.revision + 1n;
      if (++looked >= READ_STEP) break;
    }
    if (next > snapshot.head.revision) break;
    await nextTurn();
    proceed();
  }
  return states;
}
