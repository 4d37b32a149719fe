import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createFakeClock, type FakeClock } from "../../../test/support/fake-clock.ts";
import type { Store } from "../store.ts";
import { createEmbeddedStore } from "./index.ts";

describe("leases of the embedded store", () => {
  let directory: string;
  let clock: FakeClock;
  let store: Store;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-leases-"));
    clock = createFakeClock();
    store = await createEmbeddedStore({ directory, clock });
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  const putLeased = (key: string, lease: bigint) =>
    store.txn({ compare: [], then: [{ put: { key, value: new Uint8Array(1), lease } }] });

  const keys = async () => (await store.range({ prefix: "" })).kvs.map((kv) => kv.key);

  /** Waits for the disk, not for time. */
  async function untilKeys(expected: readonly string[]) {
    for (;;) {
      if (JSON.stringify(await keys()) === JSON.stringify(expected)) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  it("grants a second at least, whole milliseconds, and no impossible time", async () => {
    expect(await store.leaseGrant(1)).toMatchObject({ ttlMs: 1_000 });
    expect(await store.leaseGrant(1_500.2)).toMatchObject({ ttlMs: 1_501 });
    for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(store.leaseGrant(ttlMs)).rejects.toMatchObject({ code: "invalid" });
    }
  });

  it("expires at its time to the millisecond, however often it was renewed before", async () => {
    const { leaseId } = await store.leaseGrant(5_000);
    await putLeased("a", leaseId);
    for (let second = 0; second < 30; second++) {
      await clock.advance(1_000);
      await store.leaseKeepalive(leaseId);
    }
    await clock.advance(4_999);
    expect(await keys()).toEqual(["a"]);
    await clock.advance(1);
    await expect(store.leaseKeepalive(leaseId)).rejects.toMatchObject({ code: "lease_not_found" });
    await untilKeys([]);
  });

  it("arms one timer for all leases", async () => {
    await Promise.all(Array.from({ length: 50 }, (_, index) => store.leaseGrant(1_000 + index * 10)));
    expect(clock.pending).toBe(1);
  });

  it("takes no notice of the wall clock", async () => {
    const { leaseId } = await store.leaseGrant(5_000);
    clock.jumpWall(3_600_000);
    await clock.advance(4_000);
    await store.leaseKeepalive(leaseId);
    clock.jumpWall(-7_200_000);
    await clock.advance(4_999);
    expect(await store.leaseKeepalive(leaseId)).toMatchObject({ leaseId });
  });

  it("gives each lease its whole time again after a restart", async () => {
    const { leaseId } = await store.leaseGrant(5_000);
    await putLeased("a", leaseId);
    await clock.advance(4_000);
    await store.close();
    await clock.advance(60_000);
    store = await createEmbeddedStore({ directory, clock });
    await clock.advance(4_999);
    expect(await keys()).toEqual(["a"]);
    await clock.advance(1);
    await untilKeys([]);
  });

  it("never uses an ID again, not even after a restart", async () => {
    const { leaseId } = await store.leaseGrant(5_000);
    await store.leaseRevoke(leaseId);
    await store.close();
    store = await createEmbeddedStore({ directory, clock });
    expect((await store.leaseGrant(5_000)).leaseId).toBeGreaterThan(leaseId);
  });

  it("leaves no timer behind when it closes", async () => {
    await store.leaseGrant(5_000);
    await store.close();
    expect(clock.pending).toBe(0);
  });
});
