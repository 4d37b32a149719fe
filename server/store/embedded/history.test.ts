import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../store.ts";
import { openDisk } from "./disk.ts";
import { createEmbeddedStore } from "./index.ts";

const HISTORY = 100;

describe("history of the embedded store", () => {
  let directory: string;
  let store: Store;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-history-"));
    store = await createEmbeddedStore({ directory, historyRevisions: HISTORY });
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function writeMany(count: number) {
    const value = new Uint8Array(10);
    await Promise.all(
      Array.from({ length: count }, (_, index) =>
        store.txn({ compare: [], then: [{ put: { key: `k${index % 50}`, value } }] }),
      ),
    );
    return (await store.range({ key: "none" })).revision;
  }

  async function recordsOnDisk() {
    await store.close();
    const disk = await openDisk(directory);
    const snapshot = disk.snapshot();
    const count = [...snapshot.log(0n, "")].length;
    snapshot.release();
    await disk.close();
    return count;
  }

  it("keeps the newest revisions by itself, and drops the others from disk", async () => {
    const newest = await writeMany(5_000);
    const oldest = newest - BigInt(HISTORY) + 1n;
    expect((await store.range({ prefix: "", revision: oldest })).kvs).toHaveLength(50);
    await expect(store.range({ prefix: "", revision: oldest - 1n })).rejects.toMatchObject({
      code: "compacted",
      compactRevision: oldest,
    });
    expect(await recordsOnDisk()).toBe(HISTORY);
  });

  it("finishes dropping after a restart", async () => {
    await store.close();
    store = await createEmbeddedStore({ directory });
    await writeMany(3_500);
    await store.close();
    store = await createEmbeddedStore({ directory, historyRevisions: HISTORY });
    await writeMany(1);
    expect(await recordsOnDisk()).toBe(HISTORY);
  });

  it("ends a watcher that is too slow for it, and says where it can start again", async () => {
    const controller = new AbortController();
    const watch = store.watch({ prefix: "", fromRevision: 2n }, controller.signal);
    const iterator = watch[Symbol.asyncIterator]();
    await iterator.next();
    const newest = await writeMany(500);
    const error = await iterator.next().then(
      () => undefined,
      (err: { compactRevision: bigint }) => err,
    );
    expect(error).toMatchObject({ code: "compacted", compactRevision: newest - BigInt(HISTORY) + 1n });
  });
});
