import { describe, expect, it } from "vitest";
import { type Clock, systemClock } from "../../common/clock.ts";
import { get, put } from "../conformance/harness.ts";
import { until, within } from "../support/deadline.ts";
import { startEtcd } from "../support/etcd.ts";
import { dispatcherPut, follow, keys, openEtcd, write } from "./world.ts";

const DAY_MS = 86_400_000;

/** Jumps of the wall clock: a day back and forth, a year, and to 1970. */
const JUMPS_MS = [DAY_MS, -DAY_MS, 365 * DAY_MS, -Date.now()];

describe("a wall clock that jumps", () => {
  it("I1, I5: ends no lease, no watch and no call, and keeps none alive", async () => {
    let offsetMs = 0;
    const clock: Clock = { ...systemClock, wallMs: () => systemClock.wallMs() + offsetMs };
    await using etcd = await startEtcd();
    await using opened = openEtcd(etcd.endpoints, clock);
    const { store, diary } = opened;
    const kept = await store.leaseGrant(3_000);
    const left = await store.leaseGrant(3_000);
    const { revision: epoch } = await write(store, dispatcherPut("kept", kept.leaseId));
    await write(store, dispatcherPut("left", left.leaseId));
    await using follower = await follow(store, clock);
    const { view, feed } = follower;
    let jumps = 0;
    // The lease that nobody renews is the measure of time, and its end the proof that enough has passed.
    await until("the other lease ends", async () => {
      offsetMs = JUMPS_MS[jumps++ % JUMPS_MS.length] ?? 0;
      expect(await store.leaseKeepalive(kept.leaseId)).toEqual(kept);
      const { revision } = await put(store, keys.reservation("a"), String(jumps));
      await within("the view", feed.reached(revision, new AbortController().signal));
      expect(feed.fresh).toBe(true);
      return !view.dispatchers.has("left");
    });
    expect(jumps).toBeGreaterThan(JUMPS_MS.length);
    expect(view.dispatchers.get("kept")?.epoch).toBe(epoch);
    expect(await get(store, keys.dispatcher("left"))).toBeUndefined();
    expect(diary.count("watch interrupted") + diary.count("leaving etcd member")).toBe(0);
  });
});
