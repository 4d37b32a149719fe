import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createFakeClock, type FakeClock } from "../../../test/support/fake-clock.ts";
import { type Store, StoreError, type WatchBatch } from "../store.ts";
import { type Disk, openDisk } from "./disk.ts";
import { createStore } from "./embedded-store.ts";

const put = (store: Store, key: string, signal?: AbortSignal, lease = 0n) =>
  store.txn({ compare: [], then: [{ put: { key, value: new Uint8Array(10), lease } }] }, signal);

const keysOf = async (store: Store) => (await store.range({ prefix: "" })).kvs.map((kv) => kv.key);

describe("embedded store on a disk with faults", () => {
  let directory: string;
  let disk: Disk;
  let store: Store;
  let clock: FakeClock;
  /** Called before each commit reaches the real disk. */
  let beforeCommit: () => Promise<void>;
  let commits: number;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-faults-"));
    clock = createFakeClock();
    beforeCommit = async () => {};
    commits = 0;
    disk = await openDisk(directory);
    const faulty: Disk = {
      ...disk,
      async commit(write) {
        commits++;
        await beforeCommit();
        await disk.commit(write);
      },
    };
    store = createStore(faulty, { clock }, () => disk.close());
  });
  afterEach(async () => {
    beforeCommit = async () => {};
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  const failWith = (code: "no_space" | "unknown_outcome") => async () => {
    throw new StoreError(code, "injected");
  };

  /** Holds commits back until `release` is called. */
  function holdCommits() {
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    beforeCommit = () => {
      reached.resolve();
      return gate.promise;
    };
    return { reached: reached.promise, release: () => gate.resolve() };
  }

  it("shows nothing before it is durable, neither to reads nor to watches", async () => {
    const { revision } = await put(store, "a");
    const controller = new AbortController();
    const watch = store.watch({ prefix: "", fromRevision: revision + 1n }, controller.signal);
    const iterator = watch[Symbol.asyncIterator]();
    await iterator.next();
    const order: string[] = [];
    const { reached, release } = holdCommits();
    const write = put(store, "b").then(() => order.push("acknowledged"));
    const next = iterator.next().then(({ value }: IteratorResult<WatchBatch>) => {
      order.push("watched");
      return value?.events.map((event: { kv: { key: string } }) => event.kv.key);
    });
    await reached;
    expect(await keysOf(store)).toEqual(["a"]);
    expect(await store.range({ prefix: "" })).toMatchObject({ revision });
    expect(order).toEqual([]);
    release();
    await write;
    expect(await next).toEqual(["b"]);
    expect(await keysOf(store)).toEqual(["a", "b"]);
    controller.abort();
  });

  it("commits all that came meanwhile at once", async () => {
    const { reached, release } = holdCommits();
    const first = put(store, "first");
    await reached;
    const others = Array.from({ length: 200 }, (_, index) => put(store, `k${index}`));
    release();
    await Promise.all([first, ...others]);
    expect(commits).toBe(2);
  });

  it("writes nothing when the disk is full, says so, and goes on when there is room", async () => {
    const { leaseId } = await store.leaseGrant(60_000);
    const { revision } = await put(store, "a", undefined, leaseId);
    beforeCommit = failWith("no_space");
    const outcomes = await Promise.allSettled([put(store, "a"), put(store, "b"), store.leaseGrant(5_000)]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "no_space" } });
    }
    await expect(store.leaseRevoke(leaseId)).rejects.toMatchObject({ code: "no_space" });
    expect(await store.range({ prefix: "" })).toMatchObject({
      revision,
      kvs: [{ key: "a", version: 1n, lease: leaseId }],
    });
    beforeCommit = async () => {};
    expect(await store.leaseKeepalive(leaseId)).toMatchObject({ leaseId });
    expect((await put(store, "b", undefined, leaseId)).revision).toBe(revision + 1n);
    await store.leaseRevoke(leaseId);
    expect(await keysOf(store)).toEqual([]);
  });

  it("stops for good when the disk fails, as nobody can tell what is on it", async () => {
    const { revision } = await put(store, "a");
    const watch = store.watch({ prefix: "", fromRevision: revision + 1n }, new AbortController().signal);
    const iterator = watch[Symbol.asyncIterator]();
    await iterator.next();
    const watched = expect(iterator.next()).rejects.toMatchObject({ code: "unavailable" });
    const { reached, release } = holdCommits();
    const first = expect(put(store, "b")).rejects.toMatchObject({ code: "unknown_outcome" });
    await reached;
    const queued = expect(put(store, "c")).rejects.toMatchObject({ code: "unavailable" });
    const fail = failWith("unknown_outcome");
    beforeCommit = fail;
    const failing = disk.commit;
    disk.commit = fail;
    release();
    await Promise.all([first, queued, watched]);
    disk.commit = failing;
    const refused = { code: "unavailable", message: expect.stringContaining("must be opened again") };
    await expect(put(store, "d")).rejects.toMatchObject(refused);
    await expect(store.range({ key: "a" })).rejects.toMatchObject(refused);
    await expect(store.leaseKeepalive(1n)).rejects.toMatchObject(refused);
  });

  it("tries again to end a lease that has expired, and never takes it back", async () => {
    const { leaseId, ttlMs } = await store.leaseGrant(2_000);
    await put(store, "a", undefined, leaseId);
    beforeCommit = failWith("no_space");
    const before = commits;
    await clock.advance(ttlMs);
    await expect(store.leaseKeepalive(leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
    await expect(put(store, "b", undefined, leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
    while (commits === before) await new Promise((resolve) => setImmediate(resolve));
    await clock.armed();
    beforeCommit = async () => {};
    await clock.advance(5_000);
    while ((await keysOf(store)).length > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("tells aborted calls apart: those in the queue were not done, those on the way may be", async () => {
    const { reached, release } = holdCommits();
    const onTheWay = new AbortController();
    const inQueue = new AbortController();
    const first = put(store, "first", onTheWay.signal);
    await reached;
    const second = put(store, "second", inQueue.signal);
    onTheWay.abort(new Error("enough"));
    inQueue.abort();
    await expect(first).rejects.toMatchObject({ code: "unknown_outcome", cause: { message: "enough" } });
    await expect(second).rejects.toMatchObject({ code: "unavailable" });
    release();
    await put(store, "third");
    expect(await keysOf(store)).toEqual(["first", "third"]);
  });

  it("refuses calls when too many wait for the disk, and takes them again later", async () => {
    const { reached, release } = holdCommits();
    const first = put(store, "first");
    await reached;
    const value = new Uint8Array(8 << 20);
    const large = (key: string) => store.txn({ compare: [], then: [{ put: { key, value } }] });
    const outcomes = await Promise.allSettled([
      ...Array.from({ length: 20 }, (_, index) => large(`k${index}`)),
      first.then(() => "released"),
      Promise.resolve().then(release),
    ]);
    const refused = outcomes.filter((outcome) => outcome.status === "rejected");
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: "unavailable" });
    expect((await keysOf(store)).length).toBe(21 - refused.length);
    await large("later");
  });
});
