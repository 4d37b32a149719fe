import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../../common/clock.ts";
import { until, within } from "../../../test/support/deadline.ts";
import { type EtcdCluster, startEtcd } from "../../../test/support/etcd.ts";
import { startFaultProxy } from "../../../test/support/fault-proxy.ts";
import type { WatchBatch } from "../store.ts";
import { connectEtcd, type EtcdConnection } from "./connection.ts";
import { createWatcher, LOST_AFTER_MS } from "./watch.ts";

const logger = pino({ level: "silent" });
const clock = systemClock;

describe("watch", () => {
  let etcd: EtcdCluster;
  let direct: EtcdConnection;

  beforeAll(async () => {
    etcd = await startEtcd();
    direct = connectEtcd({ endpoints: etcd.endpoints, clock, logger });
  });

  afterAll(async () => {
    await direct.close();
    await etcd.stop();
  });

  /** Puts keys in one transaction, and resolves with its revision. */
  async function putAll(keys: readonly string[], value = Buffer.from("v")): Promise<bigint> {
    const success = keys.map((key) => ({ request_put: { key: Buffer.from(key), value } }));
    const { header } = await direct.unary({ changes: true, timeoutMs: 10_000 }, (stubs) =>
      stubs.kv.txn({ success }),
    );
    return BigInt(header.revision);
  }

  async function* watching(prefix: string, fromRevision: bigint, endpoints = etcd.endpoints) {
    const connection = connectEtcd({ endpoints, clock, logger });
    const controller = new AbortController();
    try {
      yield* createWatcher({ connection, clock, logger })({ prefix, fromRevision }, controller.signal);
    } finally {
      controller.abort();
      await connection.close();
    }
  }

  /** Takes batches until a revision has been passed. */
  async function collect(watch: AsyncIterable<WatchBatch>, toRevision: bigint): Promise<WatchBatch[]> {
    const batches: WatchBatch[] = [];
    const taking = (async () => {
      for await (const batch of watch) {
        batches.push(batch);
        if (batch.revision >= toRevision) break;
      }
    })();
    await within(`watching to ${toRevision}`, taking);
    return batches;
  }

  it("joins revisions that etcd splits over fragments", async () => {
    const value = Buffer.alloc(30_000, "x");
    const keys = Array.from({ length: 45 }, (_, index) => `wide/${index}`);
    let last = 0n;
    const first = await putAll(keys, value);
    for (let round = 1; round < 12; round++) last = await putAll(keys, value);
    await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    const batches = await collect(watching("wide/", first, [proxy.address]), last);
    // Each revision has 1.35 MB and a fragment at most 2 MiB, so fragments end within revisions.
    const seen = batches.flatMap(({ events }) => events.map(({ kv }) => `${kv.key}@${kv.modRevision}`));
    const expected = Array.from({ length: 12 }, (_, round) =>
      keys.map((key) => `${key}@${first + BigInt(round)}`),
    );
    expect(seen).toEqual(expected.flat());
    for (const { events } of batches.slice(1)) expect(events.length % keys.length).toBe(0);
    expect(batches.length).toBeGreaterThan(2);
  });

  it("yields a first batch when nothing under the prefix ever happened", async () => {
    const revision = await putAll(["elsewhere/1"]);
    await putAll(["elsewhere/2"]);
    const [first] = await collect(watching("nothing/", revision), 0n);
    expect(first).toEqual({ revision: revision - 1n, events: [] });
  });

  it("keeps a slow consumer's events with etcd", async () => {
    const value = Buffer.alloc(30_000, "x");
    const keys = Array.from({ length: 45 }, (_, index) => `slow/${index}`);
    const rounds = 40;
    const first = await putAll(keys, value);
    for (let round = 1; round < rounds; round++) await putAll(keys, value);
    await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    const watch = watching("slow/", first, [proxy.address]);
    const { value: batch } = await within("the first batch", watch.next());
    expect(batch?.events.length).toBeGreaterThan(0);
    let passed = -1;
    await until("no more is sent", async () => {
      const before = passed;
      passed = proxy.counts.toClient;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return passed === before;
    });
    // 54 MB in all; sixteen responses of up to 2 MiB may wait, and what the kernel's and HTTP/2's windows hold.
    expect(proxy.counts.toClient).toBeLessThan(44 * 1_000_000);
    const rest = await collect(watch, first + BigInt(rounds) - 1n);
    const events = [batch, ...rest].reduce((sum, each) => sum + (each?.events.length ?? 0), 0);
    expect(events).toBe(rounds * keys.length);
  });

  it("tells of compaction before anything else, and where to start again", async () => {
    const first = await putAll(["gone/1"]);
    const second = await putAll(["gone/2"]);
    const third = await putAll(["gone/3"]);
    await etcd.ctl("compact", String(third));
    const batches: WatchBatch[] = [];
    const taking = (async () => {
      for await (const batch of watching("gone/", first)) batches.push(batch);
    })();
    await expect(within("the compaction", taking)).rejects.toMatchObject({
      code: "compacted",
      compactRevision: third,
    });
    expect(batches).toEqual([]);
    expect(second).toBe(first + 1n);
  });

  it.each(["waits", "is cut off"])(
    "ends without an error when its connection closes while it %s",
    async (how) => {
      const revision = await putAll(["closing/1"]);
      await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
      const connection = connectEtcd({ endpoints: [proxy.address], clock, logger });
      const watch = createWatcher({ connection, clock, logger });
      const request = { prefix: "closing/", fromRevision: revision + 1n };
      const batches = watch(request, new AbortController().signal);
      await within("the first batch", batches.next());
      const ending = batches.next();
      if (how === "is cut off") {
        proxy.refuse(true);
        proxy.cut();
        await until("it tries again", async () => proxy.counts.refused > 0);
      }
      await within("closing", connection.close());
      expect(await within("the end", ending)).toMatchObject({ done: true });
      const late = watch(request, new AbortController().signal);
      await expect(late.next()).rejects.toMatchObject({ code: "unavailable" });
    },
  );

  it.each(["refused", "silent"])("says so when etcd stays %s, and not before", async (how) => {
    const revision = await putAll(["lost/1"]);
    await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    const watch = watching("lost/", revision + 1n, [proxy.address]);
    await within("the first batch", watch.next());
    const sinceMs = clock.monotonicMs();
    if (how === "silent") {
      proxy.stall("toClient");
    } else {
      proxy.refuse(true);
      proxy.cut();
    }
    await expect(within("the error", watch.next())).rejects.toMatchObject({ code: "unavailable" });
    // Its last sign of life may be as old as the interval of asking for one.
    expect(clock.monotonicMs() - sinceMs).toBeGreaterThan(LOST_AFTER_MS - 1_500);
  });

  it("leaves a silent member for another without a word to its consumer", async () => {
    const revision = await putAll(["silent/1"]);
    await using silent = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    await using other = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    const watch = watching("silent/", revision + 1n, [silent.address, other.address]);
    await within("the first batch", watch.next());
    const [used, spare] = silent.counts.toClient > 0 ? [silent, other] : [other, silent];
    used.stall("toClient");
    const last = await putAll(["silent/2"]);
    const [batch] = await collect(watch, last);
    expect(batch?.events.map(({ kv }) => kv.key)).toEqual(["silent/2"]);
    expect(spare.counts.toClient).toBeGreaterThan(0);
  });
});

describe("watch, with etcd set up otherwise", () => {
  it("tells of progress that etcd tells of, so that a quiet watch keeps its place", async () => {
    await using etcd = await startEtcd({ flags: ["--experimental-watch-progress-notify-interval=100ms"] });
    const connection = connectEtcd({ endpoints: etcd.endpoints, clock, logger });
    const controller = new AbortController();
    const put = async (key: string) => {
      const { header } = await connection.unary({ changes: true, timeoutMs: 10_000 }, (stubs) =>
        stubs.kv.put({ key: Buffer.from(key), value: Buffer.from("v") }),
      );
      return BigInt(header.revision);
    };
    const fromRevision = (await put("quiet/1")) + 1n;
    const watch = createWatcher({ connection, clock, logger })(
      { prefix: "quiet/", fromRevision },
      controller.signal,
    );
    await within("the first batch", watch.next());
    const elsewhere = await put("loud/1");
    expect(await within("progress", watch.next())).toEqual({
      done: false,
      value: { revision: elsewhere, events: [] },
    });
    const last = await put("quiet/2");
    const { value } = await within("the event", watch.next());
    expect(value).toMatchObject({ revision: last, events: [{ kv: { key: "quiet/2" } }] });
    controller.abort();
    await connection.close();
  });

  it("gets a new token when etcd has forgotten the old one", async () => {
    await using etcd = await startEtcd();
    for (const command of [
      "user add root:secret",
      "role add root",
      "user grant-role root root",
      "auth enable",
    ])
      await etcd.ctl(...command.split(" "));
    const auth = { user: "root", password: "secret" };
    const connection = connectEtcd({ endpoints: etcd.endpoints, auth, clock, logger });
    const watch = createWatcher({ connection, clock, logger });
    const signal = new AbortController().signal;
    const batches = watch({ prefix: "", fromRevision: 1n }, signal);
    const first = batches.next();
    // Tokens are in the member's memory only.
    await within("the first batch", first);
    await etcd.members[0]?.kill();
    await etcd.members[0]?.start();
    await until("a write", () =>
      etcd.ctl("--user=root:secret", "put", "a", "1").then(
        () => true,
        () => false,
      ),
    );
    const { value } = await within("the event", batches.next());
    expect(value?.events.map(({ kv }) => kv.key)).toEqual(["a"]);
    await connection.close();
    expect(await within("the end", batches.next())).toMatchObject({ done: true });
  });
});
