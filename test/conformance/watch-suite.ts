import { describe, expect, it } from "vitest";
import type { StoreEvent } from "../../server/store/store.ts";
import { within } from "../support/deadline.ts";
import {
  bytes,
  currentRevision,
  describeEvent,
  drain,
  eventsOf,
  put,
  remove,
  text,
  watchTo,
} from "./harness.ts";
import type { Subject } from "./store-suite.ts";

export function describeWatch(subject: Subject): void {
  describe("watch", () => {
    it("yields a first batch without waiting for a change", async () => {
      const { store } = subject;
      const { revision } = await put(store, "a", "1");
      const controller = new AbortController();
      const watch = store.watch({ prefix: "", fromRevision: revision + 1n }, controller.signal);
      const iterator = watch[Symbol.asyncIterator]();
      const { value } = await within("the first batch", iterator.next());
      expect(value).toEqual({ revision, events: [] });
      controller.abort();
      await within("the end", iterator.next());
    });

    it("yields the past from a revision on, then what follows", async () => {
      const { store } = subject;
      await put(store, "a", "0");
      const first = await put(store, "a", "1");
      await remove(store, "a");
      const controller = new AbortController();
      const seen: string[] = [];
      const watching = (async () => {
        const watch = store.watch({ prefix: "", fromRevision: first.revision }, controller.signal);
        for await (const batch of watch) {
          seen.push(...batch.events.map(describeEvent));
          if (seen.length === 2) await put(store, "b", "2");
          if (seen.length === 3) break;
        }
      })();
      await within("three events", watching);
      const { revision } = first;
      expect(seen).toEqual([`put a=1@${revision}`, `delete a@${revision + 1n}`, `put b=2@${revision + 2n}`]);
      controller.abort();
    });

    it("describes puts as they were, and deletes by key and revision", async () => {
      const { store } = subject;
      const { leaseId } = await store.leaseGrant(60_000);
      const created = await put(store, "a", "1", leaseId);
      const changed = await put(store, "a", "2");
      const removed = await remove(store, "a");
      const events = eventsOf(await watchTo(store, "", created.revision, removed.revision));
      expect(events.map(({ type, kv }) => ({ type, ...kv, value: text(kv) }))).toEqual([
        {
          type: "put",
          key: "a",
          value: "1",
          createRevision: created.revision,
          modRevision: created.revision,
          version: 1n,
          lease: leaseId,
        },
        {
          type: "put",
          key: "a",
          value: "2",
          createRevision: created.revision,
          modRevision: changed.revision,
          version: 2n,
          lease: 0n,
        },
        expect.objectContaining({ type: "delete", key: "a", value: "", modRevision: removed.revision }),
      ]);
    });

    it("yields only keys with the prefix", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      for (const key of ["a", "a/1", "b/1", "a/2"]) await put(store, key, "");
      const last = await remove(store, "a/1");
      const events = eventsOf(await watchTo(store, "a/", before + 1n, last.revision));
      expect(events.map((event) => `${event.type} ${event.kv.key}`)).toEqual([
        "put a/1",
        "put a/2",
        "delete a/1",
      ]);
    });

    it("waits for a revision of the future", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const fromRevision = before + 3n;
      const watching = watchTo(store, "", fromRevision, fromRevision);
      for (const value of ["1", "2", "3"]) await put(store, "a", value);
      const events = eventsOf(await watching);
      expect(events.map(describeEvent)).toEqual([`put a=3@${fromRevision}`]);
    });

    it("keeps the events of one revision together", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const width = 50;
      const live = watchTo(store, "", before + 1n, before + 40n);
      for (let round = 0; round < 40; round++) {
        const then = Array.from({ length: width }, (_, index) => ({
          put: { key: `k${index}`, value: bytes(String(round)) },
        }));
        await store.txn({ compare: [], then });
      }
      const past = watchTo(store, "", before + 1n, before + 40n);
      for (const batches of [await live, await past]) {
        const revisions = batches.flatMap((batch) => [...new Set(batch.events.map((e) => e.kv.modRevision))]);
        expect(revisions).toEqual(Array.from({ length: 40 }, (_, index) => before + 1n + BigInt(index)));
        expect(eventsOf(batches)).toHaveLength(40 * width);
        for (const batch of batches) {
          expect(batch.events.every((event) => event.kv.modRevision <= batch.revision)).toBe(true);
        }
      }
    });

    it("I7: misses and repeats nothing when it is resumed again and again under writes", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const total = 600;
      const writing = (async () => {
        for (let wave = 0; wave < 20; wave++) {
          const writes = Array.from({ length: total / 20 }, (_, index) => put(store, `k${index}`, `${wave}`));
          await Promise.all(writes);
        }
      })();
      const seen: StoreEvent[] = [];
      let fromRevision = before + 1n;
      for (let resumed = 0; fromRevision <= before + BigInt(total); resumed++) {
        const controller = new AbortController();
        let batches = 0;
        const watching = (async () => {
          for await (const batch of store.watch({ prefix: "", fromRevision }, controller.signal)) {
            seen.push(...batch.events);
            fromRevision = batch.revision + 1n;
            if (fromRevision > before + BigInt(total) || ++batches > resumed % 4) break;
          }
        })();
        await within("some batches", watching);
        controller.abort();
      }
      await writing;
      expect(seen.map((event) => event.kv.modRevision)).toEqual(
        Array.from({ length: total }, (_, index) => before + 1n + BigInt(index)),
      );
    });

    it("serves a consumer that stops in the middle and goes on much later", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const controller = new AbortController();
      const watch = store.watch({ prefix: "", fromRevision: before + 1n }, controller.signal);
      const iterator = watch[Symbol.asyncIterator]();
      await within("the first batch", iterator.next());
      const total = 12_000;
      for (let wave = 0; wave < 12; wave++) {
        await Promise.all(Array.from({ length: total / 12 }, () => put(store, "a", String(wave))));
      }
      const revisions: bigint[] = [];
      while (revisions.length < total) {
        const { value } = await within("the next batch", iterator.next());
        revisions.push(...(value?.events ?? []).map((event: StoreEvent) => event.kv.modRevision));
      }
      expect(revisions).toEqual(Array.from({ length: total }, (_, index) => before + 1n + BigInt(index)));
      controller.abort();
      expect(await within("the end", iterator.next())).toMatchObject({ done: true });
    });

    it("feeds many watchers alike", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const watching = Array.from({ length: 20 }, (_, index) =>
        watchTo(store, "", before + 1n + BigInt(index), before + 100n),
      );
      await Promise.all(Array.from({ length: 100 }, (_, index) => put(store, `k${index}`, "1")));
      for (const [index, batches] of (await Promise.all(watching)).entries()) {
        expect(eventsOf(batches)).toHaveLength(100 - index);
      }
    });

    it("ends when its signal aborts, before it began, and while it waits", async () => {
      const { store } = subject;
      const fromRevision = (await currentRevision(store)) + 1n;
      const aborted = store.watch({ prefix: "", fromRevision }, AbortSignal.abort());
      expect(await drain(aborted)).toEqual([]);
      const controller = new AbortController();
      const iterator = store.watch({ prefix: "", fromRevision }, controller.signal)[Symbol.asyncIterator]();
      await within("the first batch", iterator.next());
      const waiting = iterator.next();
      controller.abort();
      expect(await within("the end", waiting)).toMatchObject({ done: true });
    });
  });
}
