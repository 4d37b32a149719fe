import { Etcd3 } from "etcd3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { put, watchTo } from "../conformance/harness.ts";
import { until, within } from "../support/deadline.ts";
import { type EtcdCluster, startEtcd } from "../support/etcd.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { openEtcd, pickSeed } from "./world.ts";

const REVISIONS = 5_001;

describe("a watch whose connection is cut while it catches up", () => {
  let etcd: EtcdCluster;
  let first = 0n;
  let last = 0n;

  beforeAll(async () => {
    etcd = await startEtcd();
    await using direct = openEtcd(etcd.endpoints);
    first = (await put(direct.store, "cut/0", "0")).revision;
    for (let wave = 0; wave < 10; wave++) {
      const puts = Array.from({ length: (REVISIONS - 1) / 10 }, (_, index) =>
        put(direct.store, `cut/${index}`, `${wave}`),
      );
      await Promise.all(puts);
    }
    last = first + BigInt(REVISIONS) - 1n;
  });

  afterAll(() => etcd.stop());

  it("I7: yields every event exactly once, in order", async () => {
    const seed = pickSeed();
    const random = seededRandom(seed);
    await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "", seed });
    await using cut = openEtcd([proxy.address]);
    const seen: bigint[] = [];
    const controller = new AbortController();
    proxy.cutAfter("toClient", 50_000);
    const watching = (async () => {
      const request = { prefix: "cut/", fromRevision: first };
      for await (const batch of cut.store.watch(request, controller.signal)) {
        for (const event of batch.events) seen.push(event.kv.modRevision);
        if (batch.revision >= last) break;
        // Between two responses, or within one of the next.
        if (proxy.counts.cut < 2 || random() < 0.5) proxy.cut();
        else proxy.cutAfter("toClient", 1 + Math.floor(random() * 150_000));
      }
    })();
    await within("all events", watching);
    expect(seen).toEqual(Array.from({ length: REVISIONS }, (_, index) => first + BigInt(index)));
    expect(proxy.counts.cut).toBeGreaterThan(1);
    console.log(`cut ${proxy.counts.cut} times: ${seen.length} of ${REVISIONS} events, each once`);
  });

  it("loses events when it is one of etcd3's own, which is why there is ours", async () => {
    await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    const client = new Etcd3({ hosts: proxy.address });
    const seen = new Set<string>();
    let marked = false;
    const watcher = await client.watch().prefix("cut/").startRevision(String(first)).create();
    watcher.on("put", ({ key, mod_revision: revision }) => {
      if (seen.size === 0) proxy.cut();
      if (key.toString() === "cut/marker") marked = true;
      else seen.add(revision);
    });
    await using direct = openEtcd(etcd.endpoints);
    await until("it has been cut", async () => proxy.counts.cut > 0);
    await until("it has connected again", async () => proxy.counts.accepted > 1);
    await until("it comes to the newest event", async () => {
      // Again and again, since it may not watch yet.
      if (!marked) await put(direct.store, "cut/marker", "");
      return marked;
    });
    await watcher.cancel();
    client.close();
    console.log(`etcd3's own watcher, cut once: ${seen.size} of ${REVISIONS} events`);
    expect(seen.size).toBeLessThan(REVISIONS);
    // Nothing of this was etcd's doing.
    expect(await watchTo(direct.store, "cut/", first, last)).not.toEqual([]);
  });
});
