import { describe, expect, it } from "vitest";
import { StoreError } from "../../server/store/store.ts";
import { within } from "../support/deadline.ts";
import {
  bytes,
  currentRevision,
  describeEvent,
  drain,
  eventsOf,
  get,
  pairs,
  put,
  remove,
  text,
  watchTo,
} from "./harness.ts";
import type { Subject } from "./store-suite.ts";

export function describeLifecycle(subject: Subject): void {
  describe("lifecycle", () => {
    it("keeps keys, revisions and history over a restart", async () => {
      const first = await put(subject.store, "a", "1");
      await put(subject.store, "b", "1");
      await put(subject.store, "a", "2");
      const last = await remove(subject.store, "b");
      const before = await subject.store.range({ prefix: "" });
      const events = eventsOf(await watchTo(subject.store, "", first.revision, last.revision));
      const store = await subject.reopen();
      const after = await store.range({ prefix: "" });
      expect(after.revision).toBe(before.revision);
      expect(after.kvs.map((kv) => ({ ...kv, value: text(kv) }))).toEqual(
        before.kvs.map((kv) => ({ ...kv, value: text(kv) })),
      );
      const again = eventsOf(await watchTo(store, "", first.revision, last.revision));
      expect(again.map(describeEvent)).toEqual(events.map(describeEvent));
      expect(text(await get(store, "b", first.revision + 1n))).toBe("1");
      expect((await put(store, "c", "1")).revision).toBe(before.revision + 1n);
    });

    it("closes after what is under way, and refuses the rest", async () => {
      const { store } = subject;
      const writes = Promise.allSettled(
        Array.from({ length: 50 }, (_, index) => put(store, `k${String(index).padStart(2, "0")}`, "1")),
      );
      await within("close", Promise.all([store.close(), store.close()]));
      const outcomes = await writes;
      const acknowledged = outcomes.flatMap((outcome, index) =>
        outcome.status === "fulfilled" ? [`k${String(index).padStart(2, "0")}`] : [],
      );
      for (const outcome of outcomes) {
        if (outcome.status === "rejected") {
          expect(["unavailable", "unknown_outcome"]).toContain(outcome.reason.code);
        }
      }
      const refused = { name: "StoreError", code: "unavailable" };
      await expect(store.range({ key: "a" })).rejects.toMatchObject(refused);
      await expect(put(store, "late", "1")).rejects.toMatchObject(refused);
      await expect(store.leaseGrant(5_000)).rejects.toMatchObject(refused);
      await expect(store.leaseKeepalive(1n)).rejects.toMatchObject(refused);
      await expect(store.leaseRevoke(1n)).rejects.toMatchObject(refused);
      await expect(store.compact(1n)).rejects.toMatchObject(refused);
      const late = store.watch({ prefix: "", fromRevision: 1n }, new AbortController().signal);
      await expect(drain(late)).rejects.toMatchObject(refused);

      const reopened = await subject.reopen();
      const keys = (await reopened.range({ prefix: "" })).kvs.map((kv) => kv.key);
      expect(keys).toEqual(expect.arrayContaining(acknowledged));
      expect(keys).not.toContain("late");
    });

    it("ends watches when it closes", async () => {
      const { store } = subject;
      const fromRevision = (await currentRevision(store)) + 1n;
      const watch = store.watch({ prefix: "", fromRevision }, new AbortController().signal);
      const iterator = watch[Symbol.asyncIterator]();
      await within("the first batch", iterator.next());
      const waiting = iterator.next();
      await store.close();
      expect(await within("the end", waiting)).toMatchObject({ done: true });
    });

    it("refuses calls whose signal has aborted, and does nothing", async () => {
      const { store } = subject;
      const { leaseId } = await store.leaseGrant(60_000);
      const { revision } = await put(store, "a", "1", leaseId);
      const signal = AbortSignal.abort();
      const refused = { name: "StoreError", code: "unavailable" };
      const then = [{ put: { key: "b", value: bytes("1") } }];
      await expect(store.txn({ compare: [], then }, signal)).rejects.toMatchObject(refused);
      await expect(store.range({ key: "a" }, signal)).rejects.toMatchObject(refused);
      await expect(store.leaseGrant(5_000, signal)).rejects.toMatchObject(refused);
      await expect(store.leaseKeepalive(leaseId, signal)).rejects.toMatchObject(refused);
      await expect(store.leaseRevoke(leaseId, signal)).rejects.toMatchObject(refused);
      await expect(store.compact(revision, signal)).rejects.toMatchObject(refused);
      expect(pairs((await store.range({ prefix: "" })).kvs)).toEqual([["a", "1"]]);
    });

    it("tells the truth about transactions that are aborted on the way", async () => {
      const { store } = subject;
      const outcomes = await Promise.all(
        Array.from({ length: 60 }, async (_, index) => {
          const controller = new AbortController();
          const then = [{ put: { key: `k${index}`, value: bytes("1") } }];
          const call = store.txn({ compare: [], then }, controller.signal);
          for (let turn = 0; turn < index % 12; turn++) await new Promise((resolve) => setImmediate(resolve));
          controller.abort();
          try {
            await call;
            return "written";
          } catch (err) {
            return err instanceof StoreError ? err.code : err;
          }
        }),
      );
      await put(store, "last", "1");
      for (const [index, outcome] of outcomes.entries()) {
        const exists = (await get(store, `k${index}`)) !== undefined;
        if (outcome === "written") expect(exists).toBe(true);
        else if (outcome === "unavailable") expect(exists).toBe(false);
        else expect(outcome).toBe("unknown_outcome");
      }
    });
  });
}
