import { describe, expect, it } from "vitest";
import type { Compare, Operation } from "../../server/store/store.ts";
import {
  bytes,
  currentRevision,
  describeEvent,
  eventsOf,
  get,
  pairs,
  put,
  text,
  watchTo,
} from "./harness.ts";
import type { Subject } from "./store-suite.ts";

const putOperation = (key: string, value: string): Operation => ({ put: { key, value: bytes(value) } });

export function describeTxn(subject: Subject): void {
  describe("txn", () => {
    it("gives each write the next revision", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      expect((await put(store, "a", "1")).revision).toBe(before + 1n);
      expect((await put(store, "a", "2")).revision).toBe(before + 2n);
      expect(await currentRevision(store)).toBe(before + 2n);
    });

    it("gives all writes of one transaction one revision", async () => {
      const { store } = subject;
      await put(store, "gone", "1");
      const { revision, succeeded } = await store.txn({
        compare: [],
        then: [putOperation("a", "1"), putOperation("b", "2"), { delete: { key: "gone" } }],
      });
      expect(succeeded).toBe(true);
      expect(pairs((await store.range({ prefix: "" })).kvs)).toEqual([
        ["a", "1"],
        ["b", "2"],
      ]);
      expect(await get(store, "a")).toMatchObject({ modRevision: revision });
      expect(await get(store, "b")).toMatchObject({ modRevision: revision });
    });

    it("takes no revision when nothing is written", async () => {
      const { store } = subject;
      const { revision } = await put(store, "a", "1");
      const reads: Operation[] = [{ get: { key: "a" } }, { delete: { key: "no such key" } }];
      expect((await store.txn({ compare: [], then: reads })).revision).toBe(revision);
      expect((await store.txn({ compare: [], then: [] })).revision).toBe(revision);
      expect(await currentRevision(store)).toBe(revision);
    });

    it("compares the revisions of a key, and those of no key as 0", async () => {
      const { store } = subject;
      const created = await put(store, "a", "1");
      const changed = await put(store, "a", "2");
      const holds = async (compare: Compare) => (await store.txn({ compare: [compare], then: [] })).succeeded;
      expect(await holds({ key: "a", createRevision: created.revision })).toBe(true);
      expect(await holds({ key: "a", createRevision: changed.revision })).toBe(false);
      expect(await holds({ key: "a", createRevision: 0n })).toBe(false);
      expect(await holds({ key: "a", modRevision: changed.revision })).toBe(true);
      expect(await holds({ key: "a", modRevision: created.revision })).toBe(false);
      expect(await holds({ key: "a", modRevision: 0n })).toBe(false);
      expect(await holds({ key: "none", createRevision: 0n })).toBe(true);
      expect(await holds({ key: "none", modRevision: 0n })).toBe(true);
      expect(await holds({ key: "none", createRevision: created.revision })).toBe(false);
      expect(await holds({ key: "none", modRevision: created.revision })).toBe(false);
    });

    it("compares a deleted key as one that does not exist", async () => {
      const { store } = subject;
      const created = await put(store, "a", "1");
      await store.txn({ compare: [], then: [{ delete: { key: "a" } }] });
      const compare = [
        { key: "a", createRevision: 0n },
        { key: "a", modRevision: 0n },
      ];
      expect((await store.txn({ compare, then: [] })).succeeded).toBe(true);
      const old = [{ key: "a", modRevision: created.revision }];
      expect((await store.txn({ compare: old, then: [] })).succeeded).toBe(false);
    });

    it("runs the else branch when any compare does not hold", async () => {
      const { store } = subject;
      const { revision } = await put(store, "a", "1");
      const result = await store.txn({
        compare: [
          { key: "a", modRevision: revision },
          { key: "b", modRevision: revision },
        ],
        then: [putOperation("then", "1")],
        else: [putOperation("else", "1"), { get: { key: "a" } }],
      });
      expect(result.succeeded).toBe(false);
      expect(result.revision).toBe(revision + 1n);
      expect(result.gets.map(pairs)).toEqual([[["a", "1"]]]);
      expect(pairs((await store.range({ prefix: "" })).kvs)).toEqual([
        ["a", "1"],
        ["else", "1"],
      ]);
    });

    it("does nothing without an else branch", async () => {
      const { store } = subject;
      const { revision } = await put(store, "a", "1");
      const result = await store.txn({
        compare: [{ key: "a", modRevision: 0n }],
        then: [putOperation("a", "2")],
      });
      expect(result).toEqual({ succeeded: false, revision, gets: [] });
      expect(text(await get(store, "a"))).toBe("1");
    });

    it("answers gets in order, each seeing the writes before it", async () => {
      const { store } = subject;
      await put(store, "k/a", "1");
      await put(store, "k/c", "1");
      const { revision, gets } = await store.txn({
        compare: [],
        then: [
          { get: { prefix: "k/" } },
          putOperation("k/b", "2"),
          putOperation("k/a", "2"),
          { delete: { key: "k/c" } },
          { get: { prefix: "k/" } },
          { get: { key: "k/b" } },
          { get: { key: "k/c" } },
          { get: { prefix: "none" } },
        ],
      });
      expect(gets.map(pairs)).toEqual([
        [
          ["k/a", "1"],
          ["k/c", "1"],
        ],
        [
          ["k/a", "2"],
          ["k/b", "2"],
        ],
        [["k/b", "2"]],
        [],
        [],
      ]);
      expect(gets[1]?.map((kv) => [kv.modRevision, kv.version])).toEqual([
        [revision, 2n],
        [revision, 1n],
      ]);
    });

    it("refuses a key that is written twice in one branch, whichever runs", async () => {
      const { store } = subject;
      const twice: Operation[][] = [
        [putOperation("a", "1"), putOperation("a", "2")],
        [putOperation("a", "1"), { delete: { key: "a" } }],
        [{ delete: { key: "a" } }, { delete: { key: "a" } }],
      ];
      for (const branch of twice) {
        await expect(store.txn({ compare: [], then: branch })).rejects.toMatchObject({ code: "invalid" });
        await expect(store.txn({ compare: [], then: [], else: branch })).rejects.toMatchObject({
          code: "invalid",
        });
      }
      const result = await store.txn({
        compare: [],
        then: [putOperation("a", "1")],
        else: [putOperation("a", "2")],
      });
      expect(result.succeeded).toBe(true);
    });

    it("refuses keys that no engine can keep", async () => {
      const { store } = subject;
      for (const key of ["", "\ud800", "k".repeat(1_025), "é".repeat(513)]) {
        await expect(put(store, key, "1")).rejects.toMatchObject({ code: "invalid" });
        await expect(store.range({ key })).rejects.toMatchObject({ code: "invalid" });
      }
      await expect(store.range({ prefix: "k".repeat(1_025) })).rejects.toMatchObject({ code: "invalid" });
      await expect(store.range({ prefix: "", limit: 0 })).rejects.toMatchObject({ code: "invalid" });
      expect((await store.range({ prefix: "" })).kvs).toEqual([]);
      const longest = ["k".repeat(1_024), "é".repeat(512)];
      for (const key of longest) await put(store, key, "1");
      expect((await store.range({ prefix: "" })).kvs.map((kv) => kv.key)).toEqual(longest);
    });

    it("takes as many operations as it says, and refuses one more", async () => {
      const { store } = subject;
      const count = store.maxOperations;
      const operations = (length: number) =>
        Array.from({ length }, (_, index) => putOperation(`k${index}`, "1"));
      const compares = (length: number) =>
        Array.from({ length }, (_, index) => ({ key: `k${index}`, modRevision: 0n }));
      const refused = { code: "too_many_operations" };
      await expect(store.txn({ compare: [], then: operations(count + 1) })).rejects.toMatchObject(refused);
      await expect(store.txn({ compare: [], then: [], else: operations(count + 1) })).rejects.toMatchObject(
        refused,
      );
      await expect(store.txn({ compare: compares(count + 1), then: [] })).rejects.toMatchObject(refused);
      expect((await store.range({ prefix: "" })).kvs).toEqual([]);
      await store.txn({ compare: compares(count), then: operations(count), else: operations(count) });
      expect((await store.range({ prefix: "" })).kvs).toHaveLength(count);
    });

    it("lets exactly one of many concurrent writers win each round", async () => {
      const { store } = subject;
      for (let round = 0; round < 10; round++) {
        const modRevision = (await get(store, "a"))?.modRevision ?? 0n;
        const results = await Promise.all(
          Array.from({ length: 100 }, (_, writer) =>
            store.txn({
              compare: [{ key: "a", modRevision }],
              then: [putOperation("a", `${round}-${writer}`)],
              else: [{ get: { key: "a" } }],
            }),
          ),
        );
        const winners = results.flatMap((result, writer) => (result.succeeded ? [writer] : []));
        expect(winners).toHaveLength(1);
        const value = `${round}-${winners[0]}`;
        expect(text(await get(store, "a"))).toBe(value);
        const seenByLosers = results.flatMap((result) => result.gets.map((kvs) => text(kvs[0])));
        expect(new Set(seenByLosers)).toEqual(new Set([value]));
      }
    });

    it("counts right when many increment at once", async () => {
      const { store } = subject;
      const increment = async () => {
        for (;;) {
          const kv = await get(store, "n");
          const result = await store.txn({
            compare: [{ key: "n", modRevision: kv?.modRevision ?? 0n }],
            then: [putOperation("n", String(Number(text(kv) ?? "0") + 1))],
          });
          if (result.succeeded) return;
        }
      };
      await Promise.all(Array.from({ length: 20 }, increment));
      expect(text(await get(store, "n"))).toBe("20");
    });

    it("gives concurrent transactions different revisions, in the order of the watch", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const results = await Promise.all(
        Array.from({ length: 200 }, (_, index) => put(store, `k${index}`, String(index))),
      );
      const revisions = results.map((result) => result.revision);
      expect(new Set(revisions).size).toBe(200);
      const events = eventsOf(await watchTo(store, "", before + 1n, before + 200n));
      const expected = revisions
        .map((revision, index) => ({ revision, line: `put k${index}=${index}@${revision}` }))
        .sort((a, b) => Number(a.revision - b.revision))
        .map(({ line }) => line);
      expect(events.map(describeEvent)).toEqual(expected);
    });
  });
}
