import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import type { Health } from "./connectivity.ts";
import { createEndpointPool } from "./endpoint-pool.ts";
import type { GrpcTransport } from "./grpc-transport.ts";

/** Three replicas whose health the test says; `asked` are the probes. */
function poolOfThree(random: () => number = () => 0) {
  const clock = createFakeClock();
  const health = new Map<string, Health>();
  const asked: string[] = [];
  const unused = () => Promise.reject(new Error("not called"));
  const connect = (address: string): GrpcTransport => ({
    unary: unused,
    stream: unused,
    connected: async () => health.get(address) !== "silent",
    async health() {
      asked.push(address);
      return health.get(address) ?? "serving";
    },
    onceDisconnected() {},
    close() {},
  });
  const pool = createEndpointPool({ addresses: ["a", "b", "c"], connect, clock, random });
  const order = () => pool.order().map(({ address }) => address);
  const suspend = (address: string) =>
    pool
      .order()
      .find((endpoint) => endpoint.address === address)
      ?.suspend();
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  return { clock, health, asked, pool, order, suspend, settled };
}

describe("the replicas of a client", () => {
  it("are tried in an order that is each client's own, and stays the same", () => {
    const orders = new Set<string>();
    for (let tenth = 0; tenth < 10; tenth++) {
      const { order } = poolOfThree(() => tenth / 10);
      expect(order()).toEqual(order());
      expect(order().toSorted()).toEqual(["a", "b", "c"]);
      orders.add(order().join());
    }
    expect(orders.size).toBeGreaterThan(2);
  });

  it("come last while suspended, and first again once they say that they serve", async () => {
    const { clock, asked, order, suspend, settled } = poolOfThree();
    suspend("a");
    expect(order()).toEqual(["b", "c", "a"]);
    await clock.advance(249);
    expect(order()).toEqual(["b", "c", "a"]);
    expect(asked).toEqual([]);
    await clock.advance(1);
    // The call at hand does not wait for the probe.
    expect(order()).toEqual(["b", "c", "a"]);
    await settled();
    expect(asked).toEqual(["a"]);
    expect(order()).toEqual(["a", "b", "c"]);
  });

  it("are left alone longer each time they do not come back", async () => {
    const { clock, health, asked, order, suspend, settled } = poolOfThree();
    suspend("a");
    health.set("a", "not_serving");
    for (const waitMs of [250, 500, 1_000, 2_000]) {
      await clock.advance(waitMs - 1);
      order();
      await settled();
      const before = asked.length;
      await clock.advance(1);
      order();
      await settled();
      expect(asked.length).toBe(before + 1);
    }
    expect(order()).toEqual(["b", "c", "a"]);
  });

  it("are suspended once for calls that fail together", async () => {
    const { clock, order, suspend, settled } = poolOfThree();
    suspend("a");
    suspend("a");
    suspend("a");
    await clock.advance(250);
    order();
    await settled();
    expect(order()).toEqual(["a", "b", "c"]);
  });

  it("are all tried when none is well, the one that may be back first before the others", async () => {
    const { clock, pool, order, suspend } = poolOfThree();
    suspend("b");
    await clock.advance(10);
    suspend("c");
    suspend("a");
    expect(order()[0]).toBe("b");
    // It answered a call all the same.
    pool.order().at(-1)?.answered();
    expect(order()[0]).not.toBe("b");
  });
});
