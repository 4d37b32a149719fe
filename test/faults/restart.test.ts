import { describe, expect, it } from "vitest";
import { currentRevision, get, put, text } from "../conformance/harness.ts";
import { until, within } from "../support/deadline.ts";
import { startEtcd } from "../support/etcd.ts";
import { conferencePut, describeStore, describeView, follow, openEtcd, serverPut, write } from "./world.ts";

const elapsed = (sinceMs: number) => `${Math.round(performance.now() - sinceMs)} ms`;

describe("etcd that is killed and started again on its data", () => {
  it("I3, I7: has all that was acknowledged, and views go on where they were", async () => {
    await using etcd = await startEtcd();
    const [member] = etcd.members;
    if (!member) throw new Error("no member");
    await using opened = openEtcd(etcd.endpoints);
    const { store } = opened;
    const { leaseId } = await store.leaseGrant(60_000);
    await put(store, "leased", "1", leaseId);
    await write(
      store,
      serverPut("a", 1n),
      conferencePut("before", { serverId: "a", incarnation: 1n, epoch: 9n }),
    );
    await using follower = await follow(store);
    const { view, feed } = follower;

    const acknowledged: string[] = [];
    const refused: string[] = [];
    const writing = new AbortController();
    const writer = (async () => {
      for (let n = 0; !writing.signal.aborted; n++) {
        await put(store, `n/${n}`, String(n)).then(
          () => acknowledged.push(`n/${n}`),
          (err: { code?: string }) => refused.push(err.code ?? String(err)),
        );
      }
    })();
    await until("writes", async () => acknowledged.length > 50);
    const before = describeView(view);
    const killedMs = performance.now();
    await member.kill();
    await until("the view is stale", async () => !feed.fresh);
    console.log(`view marked stale ${elapsed(killedMs)} after the kill`);
    // Reads go on from the last view, and the store says at once that it is not there.
    expect(describeView(view)).toEqual(before);
    const askedMs = performance.now();
    await expect(put(store, "refused", "")).rejects.toMatchObject({ code: "unavailable" });
    console.log(`a write was refused after ${elapsed(askedMs)}`);
    expect(new Set(refused)).toEqual(
      new Set(refused.filter((code) => code === "unavailable" || code === "unknown_outcome")),
    );

    const startedMs = performance.now();
    const count = acknowledged.length;
    await member.start();
    const upMs = performance.now();
    await until("the view is fresh", async () => feed.fresh);
    console.log(
      `fresh ${elapsed(upMs)} after etcd answered, which took it ${Math.round(upMs - startedMs)} ms`,
    );
    await until("writes again", async () => acknowledged.length > count + 20);
    writing.abort();
    await within("the last write", writer);

    for (const key of acknowledged) expect(text(await get(store, key))).toBe(key.slice(2));
    expect(await get(store, "refused")).toBeUndefined();
    expect(await store.leaseKeepalive(leaseId)).toMatchObject({ leaseId });
    expect(await get(store, "leased")).toMatchObject({ lease: leaseId });
    const { revision } = await write(store, conferencePut("after"));
    await within("the view", feed.reached(revision, new AbortController().signal));
    expect(describeView(view)).toEqual(await describeStore(store));
    expect(await currentRevision(store)).toBe(revision);
  });
});
