import { describe, expect, it } from "vitest";
import { within } from "../support/deadline.ts";
import { describeEvent, drain, eventsOf, get, pairs, put, text, watchTo } from "./harness.ts";
import type { Subject } from "./store-suite.ts";

export function describeCompaction(subject: Subject): void {
  describe("compact", () => {
    async function writeFive() {
      const revisions: bigint[] = [];
      for (const value of ["1", "2", "3", "4", "5"]) {
        revisions.push((await put(subject.store, "a", value)).revision);
      }
      const [, second = 0n, third = 0n, , last = 0n] = revisions;
      return { second, third, last };
    }

    it("forgets what is older and keeps the revision itself, current keys and what follows", async () => {
      const { store } = subject;
      await put(store, "kept", "1");
      const { second, third, last } = await writeFive();
      await store.compact(third);
      await expect(store.range({ key: "a", revision: second })).rejects.toMatchObject({ code: "compacted" });
      expect(text(await get(store, "a", third))).toBe("3");
      expect(pairs((await store.range({ prefix: "" })).kvs)).toEqual([
        ["a", "5"],
        ["kept", "1"],
      ]);
      const events = eventsOf(await watchTo(store, "", third, last));
      expect(events.map(describeEvent)).toEqual([
        `put a=3@${third}`,
        `put a=4@${third + 1n}`,
        `put a=5@${last}`,
      ]);
    });

    it("tells a watch from before it which revision it can start from", async () => {
      const { store } = subject;
      const { second, third } = await writeFive();
      await store.compact(third);
      const watch = store.watch({ prefix: "", fromRevision: second }, new AbortController().signal);
      await expect(drain(watch)).rejects.toMatchObject({
        name: "StoreError",
        code: "compacted",
        compactRevision: third,
      });
    });

    it("refuses a revision that is compacted or does not exist", async () => {
      const { store } = subject;
      const { second, third, last } = await writeFive();
      await store.compact(third);
      await expect(store.compact(second)).rejects.toMatchObject({ code: "compacted" });
      await expect(store.compact(third)).rejects.toMatchObject({ code: "compacted" });
      await expect(store.compact(last + 1n)).rejects.toMatchObject({ code: "future_revision" });
      await store.compact(last);
      expect(text(await get(store, "a", last))).toBe("5");
    });

    it("does not disturb a watch that has passed it", async () => {
      const { store } = subject;
      const { third, last } = await writeFive();
      const controller = new AbortController();
      const watch = store.watch({ prefix: "", fromRevision: last }, controller.signal);
      const iterator = watch[Symbol.asyncIterator]();
      await within("the first batch", iterator.next());
      await store.compact(third);
      await store.compact(last);
      const { revision } = await put(store, "a", "6");
      const { value } = await within("the next batch", iterator.next());
      expect(value?.events.map(describeEvent)).toEqual([`put a=6@${revision}`]);
      controller.abort();
    });

    it("lasts", async () => {
      const { second, third } = await writeFive();
      await subject.store.compact(third);
      const store = await subject.reopen();
      await expect(store.range({ key: "a", revision: second })).rejects.toMatchObject({ code: "compacted" });
      expect(text(await get(store, "a", third))).toBe("3");
    });
  });
}
