import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createPacer } from "./pacer.ts";

describe("a pacer", () => {
  it("never lets more than the rate and one burst through, in any second", async () => {
    const clock = createFakeClock();
    const pacer = createPacer(40, clock);
    expect(pacer.largestTake).toBe(10);
    const { signal } = new AbortController();
    const passedAtMs: number[] = [];
    const all = Promise.all(
      Array.from({ length: 100 }, async () => {
        await pacer.take(1, signal);
        passedAtMs.push(clock.monotonicMs());
      }),
    );
    await clock.advance(10_000);
    await all;
    for (const fromMs of passedAtMs) {
      const within = passedAtMs.filter((atMs) => atMs >= fromMs && atMs < fromMs + 1_000).length;
      expect(within).toBeLessThanOrEqual(40 + 10);
    }
    expect(passedAtMs.at(-1)).toBe((100 - 10) / 0.04);
    // After a pause the burst is there again, and no more.
    await pacer.take(10, signal);
    expect(clock.pending).toBe(0);
  });

  it("lets everything through without a rate", async () => {
    const pacer = createPacer(Number.POSITIVE_INFINITY, createFakeClock());
    await pacer.take(1_000_000, new AbortController().signal);
    expect(pacer.largestTake).toBe(Number.POSITIVE_INFINITY);
  });

  it("gives up when the signal aborts", async () => {
    const clock = createFakeClock();
    const pacer = createPacer(1, clock);
    const stop = new AbortController();
    await pacer.take(1, stop.signal);
    const waiting = expect(pacer.take(1, stop.signal)).rejects.toThrow("enough");
    stop.abort(new Error("enough"));
    await waiting;
    expect(clock.pending).toBe(0);
  });
});
