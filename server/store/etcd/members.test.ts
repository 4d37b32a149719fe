import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../common/clock.ts";
import { createLogger, type Logger } from "../../../common/logging.ts";
import { type EtcdCluster, type EtcdMember, startEtcd } from "../../../test/support/etcd.ts";
import { type Store, StoreError } from "../store.ts";
import { connectEtcd } from "./connection.ts";
import { createEtcdStore } from "./index.ts";

const silent = createLogger("test", "silent");

const put = (store: Store, key: string) =>
  store.txn({ compare: [], then: [{ put: { key, value: Buffer.from(key) } }] });

/** Calls until there is an answer; other calls may fail, but only as the interface allows during an outage. */
async function untilAnswered<T>(call: (attempt: number) => Promise<T>): Promise<T> {
  const deadlineMs = performance.now() + 30_000;
  for (let attempt = 0; performance.now() < deadlineMs; attempt++) {
    try {
      return await call(attempt);
    } catch (err) {
      if (!(err instanceof StoreError)) throw err;
      expect(["unavailable", "unknown_outcome"]).toContain(err.code);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error("never answered");
}

const putUntilWritten = (store: Store, key: string) =>
  untilAnswered((attempt) => put(store, `${key}-${attempt}`));

describe("an endpoint that is dead", () => {
  let cluster: EtcdCluster;
  beforeEach(async () => {
    cluster = await startEtcd();
  });
  afterEach(() => cluster.stop());

  it.each([
    ["refuses connections", false],
    ["takes connections and answers nothing", true],
  ])("costs no call its outcome when it %s", async (_, listens) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const dead = `127.0.0.1:${typeof address === "object" && address ? address.port : 0}`;
    if (!listens) await new Promise((resolve) => server.close(resolve));
    const endpoints = [dead, ...cluster.endpoints];
    const store = createEtcdStore({ endpoints, logger: silent, random: () => 0 });
    try {
      const { revision } = await put(store, "a");
      expect((await store.range({ key: "a" })).revision).toBe(revision);
      const { leaseId } = await store.leaseGrant(60_000);
      expect(await store.leaseKeepalive(leaseId)).toMatchObject({ leaseId });
      for await (const batch of store.watch(
        { prefix: "", fromRevision: revision },
        AbortSignal.timeout(30_000),
      )) {
        if (batch.events.length > 0) break;
      }
    } finally {
      await store.close();
      server.close();
    }
  });

  it("is unavailable at once when there is no other, and is found again when it is back", async () => {
    const [member] = cluster.members;
    const store = createEtcdStore({ endpoints: cluster.endpoints, logger: silent });
    try {
      const { leaseId } = await store.leaseGrant(60_000);
      await put(store, "a");
      await store.leaseKeepalive(leaseId);
      await member?.kill();
      const refused = { name: "StoreError", code: "unavailable" };
      for (let round = 0; round < 20; round++) {
        // The first may have gone out before the connection was known to be lost.
        await put(store, `lost-${round}`).catch((err: unknown) => {
          if (round > 0) expect(err).toMatchObject(refused);
        });
      }
      await expect(store.range({ key: "a" })).rejects.toMatchObject(refused);
      await expect(store.leaseGrant(5_000)).rejects.toMatchObject(refused);
      await expect(store.leaseKeepalive(leaseId)).rejects.toMatchObject(refused);
      await member?.start();
      await putUntilWritten(store, "back");
      expect((await store.range({ key: "a" })).kvs).toHaveLength(1);
      expect(await untilAnswered(() => store.leaseKeepalive(leaseId))).toMatchObject({ leaseId });
      expect((await store.range({ prefix: "lost-" })).kvs).toEqual([]);
    } finally {
      await store.close();
    }
  });

  it("tells its version to the log", async () => {
    const lines: { level: string; fields: object; message: string }[] = [];
    const keep = (level: string) => (fields: object, message: string) =>
      lines.push({ level, fields, message });
    const logger = Object.assign(Object.create(silent) as Logger, {
      info: keep("info"),
      warn: keep("warn"),
      error: keep("error"),
    });
    const store = createEtcdStore({ endpoints: [...cluster.endpoints, "127.0.0.1:1"], logger });
    await store.close();
    const version = /(\d+\.\d+\.\d+)/.exec(await cluster.ctl("version"))?.[1];
    expect(lines).toContainEqual(
      expect.objectContaining({
        fields: expect.objectContaining({ endpoint: cluster.endpoints[0], version }),
      }),
    );
    expect(lines).toContainEqual(
      expect.objectContaining({
        level: "warn",
        fields: expect.objectContaining({ endpoint: "127.0.0.1:1" }),
      }),
    );
  });
});

describe("a cluster of three", () => {
  let cluster: EtcdCluster;
  let store: Store;
  beforeEach(async () => {
    cluster = await startEtcd({ members: 3 });
  });
  afterEach(async () => {
    await store.close();
    await cluster.stop();
  });

  /** A store that begins with that member. */
  function startAt(first: EtcdMember) {
    const others = cluster.endpoints.filter((endpoint) => endpoint !== first.endpoint);
    store = createEtcdStore({ endpoints: [first.endpoint, ...others], logger: silent, random: () => 0 });
    return store;
  }

  it.each([
    ["killed", (member: EtcdMember) => member.kill()],
    ["paused", (member: EtcdMember) => member.pause()],
  ])("serves on when the leader, which is in use, is %s", async (_, strike) => {
    const leader = await cluster.leader();
    startAt(leader);
    const { leaseId } = await store.leaseGrant(30_000);
    const before = await put(store, "before");
    await store.leaseKeepalive(leaseId);
    await strike(leader);
    const [renewed, read, after] = await Promise.all([
      untilAnswered(() => store.leaseKeepalive(leaseId)),
      untilAnswered(() => store.range({ key: "before" })),
      putUntilWritten(store, "after"),
    ]);
    expect(renewed).toMatchObject({ leaseId });
    expect(read.kvs).toHaveLength(1);
    expect(after.revision).toBeGreaterThan(before.revision);
    leader.resume();
  });

  it("is unavailable without a majority, with nothing written, and comes back by itself", async () => {
    const leader = await cluster.leader();
    const [kept, ...lost] = cluster.members.filter((member) => member !== leader);
    if (!kept) throw new Error("no member is left");
    startAt(kept);
    await put(store, "before");
    await Promise.all([leader, ...lost].map((member) => member.kill()));
    // Until the member notices, a write may be on its way; then it is refused before anything is done.
    const deadlineMs = performance.now() + 30_000;
    for (let code = ""; code !== "unavailable" && performance.now() < deadlineMs; ) {
      code = await put(store, "limbo").then(
        () => "written",
        (err: unknown) => (err instanceof StoreError ? err.code : String(err)),
      );
      expect(["unavailable", "unknown_outcome"]).toContain(code);
    }
    await expect(store.range({ key: "before" })).rejects.toMatchObject({ code: "unavailable" });
    await Promise.all([leader, ...lost].map((member) => member.start()));
    await putUntilWritten(store, "after");
    expect((await untilAnswered(() => store.range({ key: "before" }))).kvs).toHaveLength(1);
  });
});

describe("a connection", () => {
  it("sends a write to no second member once the first may have it", async () => {
    const [slow, quick] = await Promise.all([startEtcd(), startEtcd()]);
    const endpoints = [...slow.endpoints, ...quick.endpoints];
    const connection = connectEtcd({ endpoints, clock: systemClock, logger: silent, random: () => 0 });
    const value = Buffer.from("1");
    const write = { changes: true, timeoutMs: 1_000 };
    const putKey = (key: string) =>
      connection.unary(write, (stubs) => stubs.kv.put({ key: Buffer.from(key), value }));
    try {
      await putKey("warm");
      slow.members[0]?.pause();
      await expect(putKey("stuck")).rejects.toMatchObject({ code: "unknown_outcome" });
      expect(await quick.ctl("get", "stuck")).toBe("");
      await putKey("next");
      expect(await quick.ctl("get", "next", "--print-value-only")).toBe("1\n");
    } finally {
      slow.members[0]?.resume();
      await connection.close();
      await Promise.all([slow.stop(), quick.stop()]);
    }
  });
});
