import { describe, expect, it } from "vitest";
import { until } from "../support/deadline.ts";
import { currentRevision, describeEvent, eventsOf, get, put, remove, watchTo } from "./harness.ts";
import type { Subject } from "./store-suite.ts";

export function describeLeases(subject: Subject): void {
  describe("leases", () => {
    const isGone = (key: string) => async () => (await get(subject.store, key)) === undefined;

    it("grants at least what was asked for, each time another ID", async () => {
      const { store } = subject;
      const grants = await Promise.all(Array.from({ length: 20 }, () => store.leaseGrant(5_000)));
      for (const grant of grants) {
        expect(grant.leaseId).not.toBe(0n);
        expect(grant.ttlMs).toBeGreaterThanOrEqual(5_000);
      }
      expect(new Set(grants.map((grant) => grant.leaseId)).size).toBe(20);
    });

    it("shows the lease of a key, and takes it off when the key is put without", async () => {
      const { store } = subject;
      const { leaseId } = await store.leaseGrant(60_000);
      await put(store, "a", "1", leaseId);
      expect(await get(store, "a")).toMatchObject({ lease: leaseId });
      await put(store, "a", "2");
      expect(await get(store, "a")).toMatchObject({ lease: 0n });
      await store.leaseRevoke(leaseId);
      expect(await get(store, "a")).toMatchObject({ version: 2n });
    });

    it("refuses a put on a lease that does not exist, and writes nothing of its transaction", async () => {
      const { store } = subject;
      const { leaseId } = await store.leaseGrant(60_000);
      await store.leaseRevoke(leaseId);
      const before = await currentRevision(store);
      const value = new Uint8Array(1);
      for (const lease of [leaseId, 987_654_321n]) {
        const then = [{ put: { key: "a", value } }, { put: { key: "b", value, lease } }];
        await expect(store.txn({ compare: [], then })).rejects.toMatchObject({ code: "lease_not_found" });
      }
      expect((await store.range({ prefix: "" })).kvs).toEqual([]);
      expect(await currentRevision(store)).toBe(before);
    });

    it("deletes all keys of a revoked lease in one revision, and no others", async () => {
      const { store } = subject;
      const { leaseId } = await store.leaseGrant(60_000);
      const other = await store.leaseGrant(60_000);
      await put(store, "a", "1", leaseId);
      await put(store, "b", "1", leaseId);
      await put(store, "moved", "1", leaseId);
      await put(store, "moved", "1", other.leaseId);
      await put(store, "deleted", "1", leaseId);
      await remove(store, "deleted");
      const { revision } = await put(store, "free", "1");
      await store.leaseRevoke(leaseId);
      expect((await store.range({ prefix: "" })).kvs.map((kv) => kv.key)).toEqual(["free", "moved"]);
      const events = eventsOf(await watchTo(store, "", revision + 1n, revision + 1n));
      expect(events.map(describeEvent).sort()).toEqual([
        `delete a@${revision + 1n}`,
        `delete b@${revision + 1n}`,
      ]);
    });

    it("takes no revision to revoke a lease without keys, and succeeds when it is gone", async () => {
      const { store } = subject;
      const before = await currentRevision(store);
      const { leaseId } = await store.leaseGrant(60_000);
      await store.leaseRevoke(leaseId);
      await store.leaseRevoke(leaseId);
      expect(await currentRevision(store)).toBe(before);
      await expect(store.leaseKeepalive(leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
    });

    it("deletes the keys of a lease that is not renewed, in one revision, and the lease", async () => {
      const { store, harness } = subject;
      const { leaseId, ttlMs } = await store.leaseGrant(1_000);
      await put(store, "a", "1", leaseId);
      const { revision } = await put(store, "b", "1", leaseId);
      await harness.passTime(ttlMs);
      await until("the key is gone", isGone("a"));
      expect(await currentRevision(store)).toBe(revision + 1n);
      const events = eventsOf(await watchTo(store, "", revision + 1n, revision + 1n));
      expect(events.map((event) => `${event.type} ${event.kv.key}`).sort()).toEqual(["delete a", "delete b"]);
      await expect(store.leaseKeepalive(leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
      await expect(put(store, "a", "2", leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
      await store.leaseRevoke(leaseId);
    });

    it("keeps a lease that is renewed, and only that", async () => {
      const { store, harness } = subject;
      const renewed = await store.leaseGrant(2_000);
      const left = await store.leaseGrant(2_000);
      await put(store, "renewed", "1", renewed.leaseId);
      await put(store, "left", "1", left.leaseId);
      for (let round = 0; round < 4; round++) {
        await harness.passTime(renewed.ttlMs / 2);
        expect(await store.leaseKeepalive(renewed.leaseId)).toEqual(renewed);
      }
      await until("the other is gone", isGone("left"));
      expect(await get(store, "renewed")).toMatchObject({ version: 1n });
      await harness.passTime(renewed.ttlMs);
      await until("it is gone, too", isGone("renewed"));
    });

    it("does not end a lease early", async () => {
      const { store, harness } = subject;
      const { leaseId, ttlMs } = await store.leaseGrant(4_000);
      await put(store, "a", "1", leaseId);
      await harness.passTime(ttlMs / 2);
      expect(await get(store, "a")).toMatchObject({ lease: leaseId });
    });

    it("keeps leases and their keys over a restart, and ends them when their time comes", async () => {
      const { leaseId, ttlMs } = await subject.store.leaseGrant(2_000);
      const revoked = await subject.store.leaseGrant(2_000);
      await put(subject.store, "a", "1", leaseId);
      await subject.store.leaseRevoke(revoked.leaseId);
      const store = await subject.reopen();
      expect(await get(store, "a")).toMatchObject({ lease: leaseId });
      expect(await store.leaseKeepalive(leaseId)).toEqual({ leaseId, ttlMs });
      await expect(store.leaseKeepalive(revoked.leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
      const fresh = await store.leaseGrant(2_000);
      expect([leaseId, revoked.leaseId]).not.toContain(fresh.leaseId);
      await subject.harness.passTime(ttlMs);
      await until("the key is gone", isGone("a"));
    });
  });
}
