import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { writeBatch } from "../../server/store/conditional-writes.ts";
import { bytes, currentRevision, get } from "../conformance/harness.ts";
import { until } from "../support/deadline.ts";
import { startEtcd } from "../support/etcd.ts";
import { dispatcherPut, follow, keys, openEtcd, write } from "./world.ts";

/** Holds the event loop, as a long computation or a paused machine does, until the lease has been given up. */
function blockUntilExpired(endpoint: string, leaseId: bigint) {
  const args = [`--endpoints=http://${endpoint}`, "lease", "timetolive", leaseId.toString(16)];
  const env = { ...process.env, ETCDCTL_API: "3" };
  const untilMs = performance.now() + 30_000;
  while (!execFileSync("etcdctl", args, { env, encoding: "utf8" }).includes("already expired")) {
    if (performance.now() > untilMs) throw new Error("the lease does not expire");
  }
}

describe("a lease that is lost while its holder's event loop is blocked", () => {
  it("I5: leaves the holder nothing to write with, whatever it believes", async () => {
    await using etcd = await startEtcd();
    await using opened = openEtcd(etcd.endpoints);
    const { store } = opened;
    const [endpoint = ""] = etcd.endpoints;
    const { leaseId } = await store.leaseGrant(2_000);
    const { revision: epoch } = await write(store, dispatcherPut("d1", leaseId));
    await using follower = await follow(store);
    await store.leaseKeepalive(leaseId);
    expect(follower.view.dispatchers.get("d1")?.epoch).toBe(epoch);

    blockUntilExpired(endpoint, leaseId);
    // It has heard nothing yet: to it, the registration stands.
    expect(follower.view.dispatchers.get("d1")?.epoch).toBe(epoch);
    const fence = { key: keys.dispatcher("d1"), createRevision: epoch };
    const result = await writeBatch(
      store,
      [fence],
      [{ key: "claim", modRevision: 0n, value: bytes("mine") }],
    );
    expect(result).toMatchObject({ fenced: true, broken: [fence.key] });
    expect(await get(store, "claim")).toBeUndefined();
    await expect(store.leaseKeepalive(leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
    await expect(write(store, dispatcherPut("d1", leaseId))).rejects.toMatchObject({
      code: "lease_not_found",
    });
    await until("the view knows", async () => !follower.view.dispatchers.has("d1"));
    await until("the view is fresh", async () => follower.feed.fresh);

    // The same dispatcher comes back with another epoch.
    const again = await store.leaseGrant(60_000);
    await write(store, dispatcherPut("d1", again.leaseId));
    await until("the new epoch", async () => (follower.view.dispatchers.get("d1")?.epoch ?? 0n) > epoch);
    expect(follower.view.revision).toBe(await currentRevision(store));
  });
});
