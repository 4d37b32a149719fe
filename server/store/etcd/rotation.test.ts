import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import type { Endpoint } from "./endpoint.ts";
import { createRotation } from "./rotation.ts";

function setUp(addresses: readonly string[], random = () => 0) {
  const clock = createFakeClock();
  const closed: string[] = [];
  let opened = 0;
  const open = (address: string): Endpoint => {
    const number = ++opened;
    return {
      address,
      stubs() {
        throw new Error("not called");
      },
      close: () => closed.push(`${address}#${number}`),
    };
  };
  const rotation = createRotation(addresses, open, clock, random);
  const pick = () => {
    const picked = rotation.pick();
    if ("waitMs" in picked) throw new Error(`nothing for ${picked.waitMs} ms`);
    return picked;
  };
  return { rotation, clock, closed, pick, opened: () => opened };
}

describe("the rotation of members", () => {
  it("stays with one that works", () => {
    const { pick, rotation, opened } = setUp(["a", "b", "c"]);
    const first = pick();
    rotation.answered(first);
    expect(pick()).toBe(first);
    expect(opened()).toBe(1);
  });

  it("starts anywhere, so that replicas spread", () => {
    expect(setUp(["a", "b", "c"], () => 0).pick().address).toBe("a");
    expect(setUp(["a", "b", "c"], () => 0.99).pick().address).toBe("c");
  });

  it("moves on from one that fails, and comes back to it with new channels after its back-off", async () => {
    const { pick, rotation, clock, closed } = setUp(["a", "b"]);
    const first = pick();
    expect(rotation.leave(first, true)).toBe(true);
    expect(closed).toEqual(["a#1"]);
    const second = pick();
    expect(second.address).toBe("b");
    await clock.advance(1_000);
    rotation.leave(second, false);
    expect(pick().address).toBe("a");
    expect(pick()).not.toBe(first);
    expect(closed).toEqual(["a#1"]);
  });

  it("counts one failure for the many calls that fail together", async () => {
    const { pick, rotation, clock } = setUp(["a", "b"]);
    const first = pick();
    expect(rotation.leave(first, false)).toBe(true);
    expect(rotation.leave(first, false)).toBe(false);
    expect(rotation.leave(first, true)).toBe(false);
    // A call of the channels before says nothing of those that came after.
    expect(rotation.leave(first, true)).toBe(false);
    expect(pick().address).toBe("b");
    await clock.advance(100);
    rotation.leave(pick(), false);
    expect(pick().address).toBe("a");
  });

  it("tells how long to wait when all are backing off, longer each time, never above a second", async () => {
    const { pick, rotation, clock } = setUp(["a"]);
    const waits: number[] = [];
    for (let round = 0; round < 6; round++) {
      rotation.leave(pick(), true);
      const picked = rotation.pick();
      if (!("waitMs" in picked)) throw new Error("one was left to try");
      waits.push(picked.waitMs);
      await clock.advance(picked.waitMs);
    }
    expect(waits).toEqual([50, 100, 200, 400, 500, 500]);
  });

  it("forgets the failures of one that answers", async () => {
    const { pick, rotation, clock } = setUp(["a"]);
    for (let round = 0; round < 4; round++) {
      rotation.leave(pick(), false);
      await clock.advance(1_000);
    }
    rotation.answered(pick());
    rotation.leave(pick(), false);
    expect(rotation.pick()).toEqual({ waitMs: 50 });
  });
});
