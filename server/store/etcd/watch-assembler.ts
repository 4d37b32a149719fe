import type { IEvent, IWatchResponse } from "etcd3";
import { StoreError, type StoreEvent, type WatchBatch } from "../store.ts";
import { toKeyValue } from "./messages.ts";

/**
 * Turns what etcd sends for one watcher into batches of whole revisions, and knows where to go on after a break: behind
 * the last event that was given out. The revision in a response's header is no such place, since during catch-up it is
 * the store's and not that of the events that have been sent.
 */
export interface WatchAssembler {
  /** The first revision that has not been given out: where another stream has to start. */
  readonly next: bigint;
  /** Takes the events of a response, and returns what is complete by now. */
  take(response: Pick<IWatchResponse, "events" | "fragment">): WatchBatch | undefined;
  /** Learns that nothing up to this revision is to come. Returns that as a batch when it is news. */
  progress(revision: bigint): WatchBatch | undefined;
  /** Forgets what is incomplete, because another stream begins. */
  restart(): void;
}

export function createWatchAssembler(fromRevision: bigint): WatchAssembler {
  let next = fromRevision;
  /** In order of revisions; when a response has been left incomplete, the last of them may have more events. */
  let held: StoreEvent[] = [];
  let incomplete = false;

  const newest = () => held.at(-1)?.kv.modRevision ?? 0n;

  function release(events: StoreEvent[]): WatchBatch | undefined {
    const revision = events.at(-1)?.kv.modRevision;
    if (revision === undefined) return undefined;
    next = revision + 1n;
    return { revision, events };
  }

  return {
    get next() {
      return next;
    },
    take({ events, fragment }) {
      for (const received of events) {
        const event = toStoreEvent(received);
        // etcd may send what is older than asked for: a watch for a future revision has got it after a member's restore.
        if (event.kv.modRevision < next) continue;
        if (event.kv.modRevision < newest())
          throw new StoreError("unavailable", "etcd sent events out of order");
        held.push(event);
      }
      incomplete = fragment;
      const open = fragment ? held.findIndex((event) => event.kv.modRevision === newest()) : held.length;
      const complete = held.slice(0, Math.max(open, 0));
      held = held.slice(complete.length);
      return release(complete);
    },
    progress(revision) {
      if (incomplete || revision < next) return undefined;
      next = revision + 1n;
      return { revision, events: [] };
    },
    restart() {
      held = [];
      incomplete = false;
    },
  };
}

const NO_VALUE = new Uint8Array();

function toStoreEvent({ type, kv }: IEvent): StoreEvent {
  const described = toKeyValue(kv);
  // The stubs' types spell it differently from what they deliver.
  return type.toUpperCase() === "DELETE"
    ? { type: "delete", kv: { ...described, value: NO_VALUE } }
    : { type: "put", kv: described };
}
