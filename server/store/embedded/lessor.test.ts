import { describe, expect, it } from "vitest";
import type { Clock } from "../../../common/clock.ts";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createLessor } from "./lessor.ts";

/** A process that stands still: time goes on, timers fire only when it wakes. */
function createStallingClock() {
  const clock = createFakeClock();
  let stalledMs = 0;
  const due: (() => void)[] = [];
  const stalling: Clock = {
    ...clock,
    monotonicMs: () => clock.monotonicMs() + stalledMs,
    setTimer(callback, delayMs) {
      const timer = clock.setTimer(callback, delayMs);
      due.push(callback);
      return timer;
    },
  };
  return {
    clock: stalling,
    stall(ms: number) {
      stalledMs += ms;
    },
    /** Fires the timer that was armed last, late. */
    fireLast: () => due.at(-1)?.(),
    advance: clock.advance,
  };
}

function setUp() {
  const stalling = createStallingClock();
  const ended: bigint[] = [];
  const lessor = createLessor({
    clock: stalling.clock,
    stored: [{ leaseId: 1n, ttlMs: 5_000, keys: ["a"] }],
    end: async (leaseId) => {
      ended.push(leaseId);
    },
  });
  return { ...stalling, lessor, ended };
}

describe("lessor", () => {
  it("ends a lease whose time has come", async () => {
    const { advance, lessor, ended } = setUp();
    await advance(5_000);
    expect(ended).toEqual([1n]);
    expect(lessor.isAlive(1n)).toBe(false);
    expect(lessor.isKnown(1n)).toBe(true);
  });

  it("does not blame leases for the time the process itself stood still, when the timer is served first", () => {
    const { stall, fireLast, lessor, ended } = setUp();
    stall(60_000);
    fireLast();
    expect(ended).toEqual([]);
    expect(lessor.keepalive(1n)).toEqual({ leaseId: 1n, ttlMs: 5_000 });
  });

  it("does not blame them when a keepalive is served first", async () => {
    const { stall, advance, lessor, ended } = setUp();
    stall(60_000);
    expect(lessor.keepalive(1n)).toEqual({ leaseId: 1n, ttlMs: 5_000 });
    await advance(4_999);
    expect(ended).toEqual([]);
    await advance(1);
    expect(ended).toEqual([1n]);
  });

  it("refuses a keepalive past the deadline though the timer has yet to fire", () => {
    const { stall, lessor } = setUp();
    stall(5_000);
    expect(() => lessor.keepalive(1n)).toThrow(expect.objectContaining({ code: "lease_not_found" }));
  });
});
