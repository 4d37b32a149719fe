import { afterEach, describe, expect, it } from "vitest";
import { createLogger } from "../../../common/logging.ts";
import { type EtcdCluster, startEtcd } from "../../../test/support/etcd.ts";
import { writeBatch } from "../conditional-writes.ts";
import type { Store } from "../store.ts";
import { StoreError } from "../store.ts";
import { createEtcdStore } from "./index.ts";

const logger = createLogger("test", "silent");

describe("the limits of an etcd server", () => {
  let cluster: EtcdCluster;
  let store: Store;

  async function open(...flags: string[]) {
    cluster = await startEtcd({ flags });
    store = createEtcdStore({ endpoints: cluster.endpoints, logger });
  }
  afterEach(async () => {
    await store.close();
    await cluster.stop();
  });

  const writes = (count: number) =>
    Array.from({ length: count }, (_, index) => ({
      key: `k/${String(index).padStart(3, "0")}`,
      modRevision: 0n,
      value: Buffer.from(`value ${index}`),
    }));
  const put = (key: string) => store.txn({ compare: [], then: [{ put: { key, value: Buffer.from(key) } }] });

  it("are learned from the first transaction that is too long", async () => {
    await open("--max-txn-ops=16");
    expect(store.maxOperations).toBe(128);
    const then = writes(17).map(({ key, value }) => ({ put: { key, value } }));
    await expect(store.txn({ compare: [], then })).rejects.toMatchObject({ code: "too_many_operations" });
    expect(store.maxOperations).toBe(16);
    expect((await store.range({ prefix: "k/" })).kvs).toEqual([]);
    await store.txn({ compare: [], then: then.slice(0, 16) });
  });

  it("are learned once by many that are too long at once", async () => {
    await open("--max-txn-ops=21");
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, batch) =>
        writeBatch(
          store,
          [{ key: "fence", modRevision: 0n }],
          writes(100).map((write) => ({ ...write, key: `${batch}/${write.key}` })),
        ),
      ),
    );
    expect(store.maxOperations).toBe(21);
    for (const outcome of outcomes) {
      expect(outcome.fenced ? 0 : outcome.written.size).toBe(100);
    }
    expect((await store.range({ prefix: "" })).kvs).toHaveLength(1_000);
  });

  it("split a batch in the middle, each part with its fence and only its own conflicts", async () => {
    await open("--max-txn-ops=16");
    const { revision: fence } = await put("fence");
    await put("k/003");
    await put("k/070");
    const result = await writeBatch(store, [{ key: "fence", createRevision: fence }], writes(100));
    expect(result.fenced).toBe(false);
    if (!result.fenced) {
      expect(result.written.size).toBe(98);
      expect(result.written.has("k/003")).toBe(false);
      expect(result.written.has("k/070")).toBe(false);
    }
    expect(result.revision).toBe((await store.range({ key: "fence" })).revision);
    const gone = [{ key: "fence", createRevision: fence - 1n }];
    const others = writes(100).map((write) => ({ ...write, value: Buffer.from("another attempt") }));
    expect(await writeBatch(store, gone, others)).toMatchObject({ fenced: true, broken: ["fence"] });
  });

  it("do not split a batch whose fence is rewritten with it", async () => {
    await open("--max-txn-ops=16");
    const fences = [{ key: "fence", modRevision: 0n, value: Buffer.from("once") }];
    await expect(writeBatch(store, fences, writes(40))).rejects.toMatchObject({
      code: "too_many_operations",
    });
    expect(store.maxOperations).toBe(16);
    expect((await store.range({ prefix: "" })).kvs).toEqual([]);
    const result = await writeBatch(store, fences, writes(15));
    expect(result).toMatchObject({ fenced: false });
  });

  it("never sink below what a commit needs", async () => {
    await open("--max-txn-ops=2");
    const then = writes(5).map(({ key, value }) => ({ put: { key, value } }));
    await expect(store.txn({ compare: [], then })).rejects.toMatchObject({ code: "too_many_operations" });
    expect(store.maxOperations).toBe(4);
  });

  it("refuse a request that is too large, whichever layer notices", async () => {
    await open();
    for (const size of [1.6 * 1024 * 1024, 3 * 1024 * 1024]) {
      const value = new Uint8Array(size);
      await expect(
        store.txn({ compare: [], then: [{ put: { key: "large", value } }] }),
      ).rejects.toMatchObject({
        code: "invalid",
      });
    }
    await put("small");
  });

  it("I3: tell the truth about writes when the space runs out, and serve reads and deletes on", async () => {
    // Concurrent writers pass the check together, so that etcd applies some that it then calls refused.
    await open("--quota-backend-bytes=1000000");
    const outcomes = new Map<string, string>();
    const write = async (key: string) => {
      const value = Buffer.concat([Buffer.from(key), Buffer.alloc(3_000)]);
      try {
        const result = await writeBatch(store, [], [{ key, modRevision: 0n, value }]);
        outcomes.set(key, result.fenced ? "fenced" : "written");
      } catch (err) {
        outcomes.set(key, err instanceof StoreError ? err.code : String(err));
      }
    };
    const writer = async (name: number) => {
      for (let index = 0; index < 30; index++) await write(`k/${name}-${index}`);
    };
    await Promise.all(Array.from({ length: 16 }, (_, name) => writer(name)));
    expect(new Set(outcomes.values())).toEqual(new Set(["written", "no_space"]));
    const { kvs } = await store.range({ prefix: "k/" });
    const written = [...outcomes].filter(([, outcome]) => outcome === "written").map(([key]) => key);
    expect(kvs.map(({ key }) => key).sort()).toEqual(written.sort());

    await expect(store.leaseGrant(5_000)).rejects.toMatchObject({ code: "no_space" });
    const [first] = kvs;
    const removal = { key: first?.key ?? "", modRevision: first?.modRevision ?? 0n, value: undefined };
    expect(await writeBatch(store, [], [removal])).toMatchObject({ fenced: false });
    await cluster.ctl("alarm", "disarm");
  });
});
