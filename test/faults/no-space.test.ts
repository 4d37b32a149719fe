import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { fromStoreError } from "../../server/services/store-status.ts";
import { StoreError } from "../../server/store/store.ts";
import { currentRevision, get, put, remove, text } from "../conformance/harness.ts";
import { within } from "../support/deadline.ts";
import { startEtcd } from "../support/etcd.ts";
import { conferencePut, describeStore, describeView, follow, openEtcd, serverPut, write } from "./world.ts";

describe("etcd without space", () => {
  it("I3: refuses writes, goes on with reads, watches and leases, and takes writes again once there is room", async () => {
    await using etcd = await startEtcd({ flags: [`--quota-backend-bytes=${16 * 1024 * 1024}`] });
    await using opened = openEtcd(etcd.endpoints);
    const { store } = opened;
    const { leaseId, ttlMs } = await store.leaseGrant(60_000);
    await put(store, "leased", "1", leaseId);
    await write(store, serverPut("a", 1n), conferencePut("first"));
    await using follower = await follow(store);
    const { view, feed } = follower;

    const filler = "x".repeat(1_000_000);
    const fill = async () => {
      for (let n = 0; n < 100; n++) await put(store, "filler", filler);
    };
    const refusal: unknown = await within("the quota", fill()).catch((err: unknown) => err);
    expect(refusal).toBeInstanceOf(StoreError);
    expect(refusal).toMatchObject({ code: "no_space" });
    // What a client is told: come again, nothing was done.
    const told = fromStoreError(refusal);
    expect(told).toBeInstanceOf(ConnectError);
    expect(told).toMatchObject({ code: Code.Unavailable });

    await expect(put(store, "small", "")).rejects.toMatchObject({ code: "no_space" });
    await expect(store.leaseGrant(60_000)).rejects.toMatchObject({ code: "no_space" });
    expect(await get(store, "small")).toBeUndefined();
    expect(text(await get(store, "leased"))).toBe("1");
    expect(await store.leaseKeepalive(leaseId)).toEqual({ leaseId, ttlMs });
    await remove(store, "filler");
    expect(feed.fresh).toBe(true);

    await etcd.ctl("compact", "--physical", String(await currentRevision(store)));
    await etcd.ctl("defrag");
    await etcd.ctl("alarm", "disarm");
    const { revision } = await write(store, conferencePut("second"));
    await within("the view", feed.reached(revision, new AbortController().signal));
    expect(feed.fresh).toBe(true);
    expect(describeView(view)).toEqual(await describeStore(store));
  });
});
