import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createFaultyStore, type FaultyStore } from "../../test/support/faulty-store.ts";
import { writeBatch } from "./conditional-writes.ts";
import { createEmbeddedStore } from "./embedded/index.ts";
import type { Store } from "./store.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("a batch of conditional writes", () => {
  let directory: string;
  let inner: Store;
  let faulty: FaultyStore;
  let store: Store;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-writes-"));
    inner = await createEmbeddedStore({ directory, clock: createFakeClock() });
    faulty = createFaultyStore(inner);
    store = faulty.store;
  });
  afterEach(async () => {
    await inner.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Someone else's write, past the faults. */
  const put = async (key: string, value: string) =>
    (await inner.txn({ compare: [], then: [{ put: { key, value: bytes(value) } }] })).revision;
  const get = async (key: string) => {
    const { kvs } = await inner.range({ key });
    return kvs[0] && new TextDecoder().decode(kvs[0].value);
  };
  const create = (key: string, value: string) => ({ key, modRevision: 0n, value: bytes(value) });

  it("writes everything in one transaction", async () => {
    const old = await put("b", "old");
    const gone = await put("c", "old");
    const result = await writeBatch(
      store,
      [],
      [
        create("a", "1"),
        { key: "b", modRevision: old, value: bytes("2") },
        { key: "c", modRevision: gone, value: undefined },
      ],
    );
    expect(result).toEqual({ fenced: false, written: new Set(["a", "b", "c"]), revision: gone + 1n });
    expect([await get("a"), await get("b"), await get("c")]).toEqual(["1", "2", undefined]);
    expect(faulty.txns).toBe(1);
  });

  it("passes over those that have changed, and writes the rest with one more transaction", async () => {
    const old = await put("b", "old");
    await put("b", "newer");
    const result = await writeBatch(
      store,
      [],
      [create("a", "1"), { key: "b", modRevision: old, value: bytes("2") }, create("c", "3")],
    );
    expect(result).toMatchObject({ fenced: false, written: new Set(["a", "c"]) });
    expect([await get("a"), await get("b"), await get("c")]).toEqual(["1", "newer", "3"]);
    expect(faulty.txns).toBe(2);
  });

  it("tells at which revision it met what had changed, when nothing was left to write", async () => {
    const revision = await put("a", "others");
    const result = await writeBatch(store, [], [create("a", "mine")]);
    expect(result).toEqual({ fenced: false, written: new Set(), revision });
  });

  it("writes nothing when a fence does not hold, and names it", async () => {
    const held = await put("held", "x");
    await put("broken", "x");
    const fences = [
      { key: "held", modRevision: held },
      { key: "broken", modRevision: 1n },
      { key: "gone", createRevision: 7n },
    ];
    const result = await writeBatch(store, fences, [create("a", "1")]);
    expect(result).toMatchObject({ fenced: true, broken: ["broken", "gone"] });
    expect(await get("a")).toBeUndefined();
  });

  it("rewrites a fence that has a value, so that the next on the same condition fails", async () => {
    const room = await put("room", "x");
    const fence = { key: "room", modRevision: room };
    const first = await writeBatch(store, [{ ...fence, value: bytes("one") }], [create("a", "1")]);
    const second = await writeBatch(store, [{ ...fence, value: bytes("two") }], [create("b", "2")]);
    expect([first.fenced, second.fenced]).toEqual([false, true]);
    expect([await get("room"), await get("b")]).toEqual(["one", undefined]);
  });

  it("knows what it has written when the reply was lost, and does not write it twice", async () => {
    faulty.faultOf = (_, attempt) => (attempt === 1 ? "reply lost" : "none");
    const result = await writeBatch(store, [], [create("a", "1"), create("b", "2")]);
    expect(result).toEqual({ fenced: false, written: new Set(["a", "b"]), revision: 2n });
    expect((await inner.range({ key: "none" })).revision).toBe(2n);
  });

  it("writes what was lost on the way", async () => {
    faulty.faultOf = (_, attempt) => (attempt <= 2 ? "request lost" : "none");
    const result = await writeBatch(store, [], [create("a", "1")]);
    expect(result).toMatchObject({ written: new Set(["a"]) });
    expect(await get("a")).toBe("1");
  });

  it("leaves alone what others wrote over its own, and finds the rest of what had landed", async () => {
    faulty.faultOf = (_, attempt) => (attempt === 1 ? "reply lost" : "none");
    faulty.afterTxn = async () => {
      faulty.afterTxn = () => {};
      await put("a", "others");
    };
    const result = await writeBatch(store, [], [create("a", "1"), create("b", "2")]);
    expect(result).toEqual({ fenced: false, written: new Set(["b"]), revision: 2n });
    expect(await get("a")).toBe("others");
  });

  it("claims nothing when all that had landed was overwritten", async () => {
    faulty.faultOf = (_, attempt) => (attempt === 1 ? "reply lost" : "none");
    faulty.afterTxn = async () => {
      faulty.afterTxn = () => {};
      await put("a", "others");
    };
    const result = await writeBatch(store, [], [create("a", "1")]);
    expect(result).toMatchObject({ fenced: false, written: new Set() });
    expect(await get("a")).toBe("others");
  });

  it("takes its own rewritten fence for no conflict", async () => {
    const room = await put("room", "x");
    faulty.faultOf = (_, attempt) => (attempt === 1 ? "reply lost" : "none");
    const fence = { key: "room", modRevision: room, value: bytes("mine") };
    const result = await writeBatch(store, [fence], [create("a", "1")]);
    expect(result).toMatchObject({ fenced: false, written: new Set(["a"]) });
  });

  it("gives up when the outcome stays unknown, and at once on other errors", async () => {
    faulty.faultOf = () => "request lost";
    await expect(writeBatch(store, [], [create("a", "1")])).rejects.toMatchObject({
      code: "unknown_outcome",
    });
    expect(faulty.txns).toBe(4);
    faulty.faultOf = () => "unavailable";
    await expect(writeBatch(store, [], [create("a", "1")])).rejects.toMatchObject({ code: "unavailable" });
    expect(faulty.txns).toBe(5);
    expect(await get("a")).toBeUndefined();
  });

  it("asks nothing for an empty batch", async () => {
    expect(await writeBatch(store, [], [])).toMatchObject({ fenced: false, written: new Set() });
    expect(faulty.txns).toBe(0);
  });
});
