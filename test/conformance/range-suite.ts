import { describe, expect, it } from "vitest";
import { currentRevision, get, pairs, put, remove } from "./harness.ts";
import type { Subject } from "./store-suite.ts";

export function describeRange(subject: Subject): void {
  describe("range", () => {
    it("finds nothing in an empty store", async () => {
      const { store } = subject;
      expect(await store.range({ prefix: "" })).toMatchObject({ kvs: [], more: false });
      expect(await store.range({ key: "a" })).toMatchObject({ kvs: [], more: false });
    });

    it("finds one key, and not those it is a prefix of", async () => {
      const { store } = subject;
      await put(store, "a", "1");
      await put(store, "ab", "2");
      expect(pairs((await store.range({ key: "a" })).kvs)).toEqual([["a", "1"]]);
    });

    it("finds the keys with a prefix and no others", async () => {
      const { store } = subject;
      for (const key of ["a/1", "a/2", "a", "b/1", "a0", "a/"]) await put(store, key, key);
      expect((await store.range({ prefix: "a/" })).kvs.map((kv) => kv.key)).toEqual(["a/", "a/1", "a/2"]);
      expect((await store.range({ prefix: "" })).kvs).toHaveLength(6);
      expect((await store.range({ prefix: "c" })).kvs).toEqual([]);
    });

    it("orders keys by their UTF-8 bytes, not by UTF-16 units", async () => {
      const { store } = subject;
      const keys = ["\u{1f600}", "\uffee", "z", "é", "a\u0000", "a", "Z", "\u{10ffff}"];
      for (const key of keys) await put(store, key, "");
      const sorted = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect((await store.range({ prefix: "" })).kvs.map((kv) => kv.key)).toEqual(sorted);
      expect((await store.range({ prefix: "\u{1f600}" })).kvs.map((kv) => kv.key)).toEqual(["\u{1f600}"]);
      expect((await store.range({ prefix: "\u{10ffff}" })).kvs.map((kv) => kv.key)).toEqual(["\u{10ffff}"]);
    });

    it("keeps values byte by byte, empty and large ones too", async () => {
      const { store } = subject;
      const values = [new Uint8Array(0), Uint8Array.of(0, 255, 128), new Uint8Array(300_000).fill(7)];
      for (const [index, value] of values.entries()) {
        await store.txn({ compare: [], then: [{ put: { key: `v${index}`, value } }] });
      }
      const { kvs } = await store.range({ prefix: "v" });
      expect(kvs.map((kv) => Buffer.from(kv.value).toString("hex"))).toEqual(
        values.map((value) => Buffer.from(value).toString("hex")),
      );
    });

    it("counts versions and keeps the revisions of creation and change", async () => {
      const { store } = subject;
      const first = await put(store, "a", "1");
      const second = await put(store, "a", "2");
      expect(await get(store, "a")).toMatchObject({
        createRevision: first.revision,
        modRevision: second.revision,
        version: 2n,
        lease: 0n,
      });
    });

    it("creates a deleted key anew", async () => {
      const { store } = subject;
      await put(store, "a", "1");
      await put(store, "a", "2");
      await remove(store, "a");
      expect(await get(store, "a")).toBeUndefined();
      const { revision } = await put(store, "a", "3");
      expect(await get(store, "a")).toMatchObject({
        createRevision: revision,
        modRevision: revision,
        version: 1n,
      });
    });

    it("reads an older revision as it was", async () => {
      const { store } = subject;
      const empty = await currentRevision(store);
      const first = await put(store, "a", "1");
      await put(store, "b", "1");
      const changed = await put(store, "a", "2");
      const removed = await remove(store, "a");
      await put(store, "a", "3");
      const at = async (revision: bigint) => pairs((await store.range({ prefix: "", revision })).kvs);
      expect(await at(empty)).toEqual([]);
      expect(await at(first.revision)).toEqual([["a", "1"]]);
      expect(await at(changed.revision)).toEqual([
        ["a", "2"],
        ["b", "1"],
      ]);
      expect(await at(removed.revision)).toEqual([["b", "1"]]);
      expect(await get(store, "a", changed.revision)).toMatchObject({ version: 2n });
      expect(await get(store, "a", removed.revision)).toBeUndefined();
      expect((await store.range({ prefix: "", revision: first.revision })).revision).toBe(first.revision);
    });

    it("refuses a revision that does not exist yet", async () => {
      const { store } = subject;
      const { revision } = await put(store, "a", "1");
      await expect(store.range({ key: "a", revision: revision + 1n })).rejects.toMatchObject({
        name: "StoreError",
        code: "future_revision",
      });
    });

    it("sees every write acknowledged before", async () => {
      const { store } = subject;
      for (let round = 0; round < 50; round++) {
        const { revision } = await put(store, "a", String(round));
        const range = await store.range({ key: "a" });
        expect(range.revision).toBeGreaterThanOrEqual(revision);
        expect(pairs(range.kvs)).toEqual([["a", String(round)]]);
      }
    });

    it("tells whether the limit cut the answer short", async () => {
      const { store } = subject;
      for (const key of ["a", "b", "c"]) await put(store, key, "");
      expect(await store.range({ prefix: "", limit: 2 })).toMatchObject({
        kvs: [{ key: "a" }, { key: "b" }],
        more: true,
      });
      expect((await store.range({ prefix: "", limit: 3 })).more).toBe(false);
      expect(await store.range({ prefix: "", after: "b", limit: 3 })).toMatchObject({
        kvs: [{ key: "c" }],
        more: false,
      });
    });

    it("continues after a key that exists, is gone, or lies outside the prefix", async () => {
      const { store } = subject;
      for (const key of ["a", "p/1", "p/2", "p/3", "q"]) await put(store, key, "");
      const keysAfter = async (key: string) =>
        (await store.range({ prefix: "p/", after: key })).kvs.map((kv) => kv.key);
      expect(await keysAfter("p/1")).toEqual(["p/2", "p/3"]);
      expect(await keysAfter("p/15")).toEqual(["p/2", "p/3"]);
      expect(await keysAfter("a")).toEqual(["p/1", "p/2", "p/3"]);
      expect(await keysAfter("p/3")).toEqual([]);
      expect(await keysAfter("z")).toEqual([]);
    });

    it("pages through one revision while writes go on", async () => {
      const { store } = subject;
      const key = (index: number) => `k/${String(index).padStart(3, "0")}`;
      for (let index = 0; index < 100; index++) await put(store, key(index * 2), "old");
      let page = await store.range({ prefix: "k/", limit: 7 });
      const { revision } = page;
      const seen = [...page.kvs];
      for (let round = 0; page.more; round++) {
        await put(store, key(round * 2 + 1), "new");
        await put(store, key(199 - round * 2), "new");
        await put(store, key(round * 4), "changed");
        await remove(store, key(198 - round * 6));
        const after = seen.at(-1)?.key ?? "";
        page = await store.range({ prefix: "k/", revision, after, limit: 7 });
        expect(page.revision).toBe(revision);
        seen.push(...page.kvs);
      }
      expect(pairs(seen)).toEqual(Array.from({ length: 100 }, (_, index) => [key(index * 2), "old"]));
    });

    it("reads thousands of keys at one revision while writes go on", async () => {
      const { store } = subject;
      const writes = Array.from({ length: 40 }, (_, batch) =>
        store.txn({
          compare: [],
          then: Array.from({ length: 100 }, (_, index) => ({
            put: { key: `many/${batch}/${index}`, value: new Uint8Array(10) },
          })),
        }),
      );
      await Promise.all(writes);
      const [all] = await Promise.all([
        store.range({ prefix: "many/" }),
        ...Array.from({ length: 20 }, (_, index) => remove(store, `many/39/${index}`)),
      ]);
      const newer = all.kvs.filter((kv) => kv.modRevision > all.revision);
      expect(newer).toEqual([]);
      const again = await store.range({ prefix: "many/", revision: all.revision });
      expect(again.kvs.map((kv) => kv.key)).toEqual(all.kvs.map((kv) => kv.key));
      expect((await store.range({ prefix: "many/" })).kvs).toHaveLength(3_980);
    });
  });
}
