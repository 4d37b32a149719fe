import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ConditionalWrite, writeBatch } from "../../server/store/conditional-writes.ts";
import type { Store } from "../../server/store/store.ts";
import { bytes, currentRevision, get, put, text } from "../conformance/harness.ts";
import { until, within } from "../support/deadline.ts";
import { type EtcdCluster, startEtcd } from "../support/etcd.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { openEtcd } from "./world.ts";

describe("a write whose reply does not arrive", () => {
  let etcd: EtcdCluster;
  let round = 0;
  let writes: readonly ConditionalWrite[] = [];
  let marker = "";

  beforeAll(async () => {
    etcd = await startEtcd();
  });

  beforeEach(() => {
    round += 1;
    marker = `attempt-${round}`;
    writes = ["a", "b", "c"].map((name) => ({
      key: `${name}/${round}`,
      modRevision: 0n,
      value: bytes(`${marker} ${name}`),
    }));
  });

  afterAll(() => etcd.stop());

  const startProxy = () => startFaultProxy({ target: etcd.endpoints[0] ?? "" });

  /** Both of them lead to the same member; says which one the calls take. */
  async function inUse(store: Store, one: FaultProxy, other: FaultProxy) {
    const before = one.counts.toServer;
    const size = 100_000;
    await put(store, "large", "x".repeat(size));
    return one.counts.toServer - before >= size ? one : other;
  }

  it("I3: is reported as written, once, though its reply is lost", async () => {
    await using proxy = await startProxy();
    await using direct = openEtcd(etcd.endpoints);
    await using cut = openEtcd([proxy.address]);
    await put(cut.store, "warm", "up");
    const landed = () =>
      until("it has landed", async () => (await get(direct.store, `c/${round}`)) !== undefined);
    const dropped = proxy.dropReplyTo(marker, landed);
    const before = await currentRevision(direct.store);
    const result = await within("the write", writeBatch(cut.store, [], writes));
    await within("the cut", dropped);
    expect(result).toEqual({
      fenced: false,
      written: new Set(writes.map(({ key }) => key)),
      revision: before + 1n,
    });
    for (const { key } of writes) expect(await get(direct.store, key)).toMatchObject({ version: 1n });
    expect(await currentRevision(direct.store)).toBe(before + 1n);
  });

  it("I3: is an unknown outcome for a transaction that cannot be told apart", async () => {
    await using proxy = await startProxy();
    await using direct = openEtcd(etcd.endpoints);
    await using cut = openEtcd([proxy.address]);
    await put(cut.store, "warm", "up");
    const key = `plain/${round}`;
    const landed = () => until("it has landed", async () => (await get(direct.store, key)) !== undefined);
    const dropped = proxy.dropReplyTo(marker, landed);
    await expect(within("the write", put(cut.store, key, marker))).rejects.toMatchObject({
      code: "unknown_outcome",
    });
    await within("the cut", dropped);
    expect(text(await get(direct.store, key))).toBe(marker);
    // It was not sent again.
    expect(await get(direct.store, key)).toMatchObject({ version: 1n });
  });

  it("I3: is found to have landed when replies are held up, over another way", async () => {
    await using one = await startProxy();
    await using other = await startProxy();
    await using held = openEtcd([one.address, other.address]);
    const used = await inUse(held.store, one, other);
    used.stall("toClient");
    const result = await within("the write", writeBatch(held.store, [], writes));
    expect(result).toMatchObject({ fenced: false, written: new Set(writes.map(({ key }) => key)) });
    for (const { key } of writes) expect(await get(held.store, key)).toMatchObject({ version: 1n });
  });

  it("I1: takes no effect when it arrives after it was sent again over another way", async () => {
    await using one = await startProxy();
    await using other = await startProxy();
    await using direct = openEtcd(etcd.endpoints);
    await using held = openEtcd([one.address, other.address]);
    const used = await inUse(held.store, one, other);
    used.stall("toServer");
    const result = await within("the write", writeBatch(held.store, [], writes));
    expect(result).toMatchObject({ fenced: false, written: new Set(writes.map(({ key }) => key)) });
    // What others do in the meantime must not be undone by the late one.
    await put(direct.store, `a/${round}`, "newer");
    const revision = await currentRevision(direct.store);
    used.resume();
    // The store has left these connections, so etcd ends them when it has read what was held.
    await until("what was held has arrived", async () => used.open === 0);
    expect(text(await get(direct.store, `a/${round}`))).toBe("newer");
    expect(await currentRevision(direct.store)).toBe(revision);
  });
});
