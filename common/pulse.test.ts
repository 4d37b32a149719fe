import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { createFakeClock } from "../test/support/fake-clock.ts";
import { createPulse } from "./pulse.ts";

describe("a pulse", () => {
  it("wakes all who wait, and nobody who comes later", async () => {
    const clock = createFakeClock();
    const pulse = createPulse(clock);
    const { signal } = new AbortController();
    const first = [pulse.next(signal), pulse.next(signal, 1_000)];
    pulse.notify();
    const late = pulse.next(signal, 1_000);
    expect(await Promise.all(first)).toEqual(["pulse", "pulse"]);
    await clock.advance(1_000);
    expect(await late).toBe("timeout");
  });

  it("says at once that the signal has aborted", async () => {
    const pulse = createPulse(createFakeClock());
    const controller = new AbortController();
    const waiting = pulse.next(controller.signal);
    controller.abort();
    expect(await waiting).toBe("aborted");
    expect(await pulse.next(controller.signal)).toBe("aborted");
  });

  it("leaves neither timers nor listeners behind", async () => {
    const clock = createFakeClock();
    const pulse = createPulse(clock);
    const controller = new AbortController();
    for (let round = 0; round < 100; round++) {
      const waiting = pulse.next(controller.signal, 60_000);
      pulse.notify();
      await waiting;
    }
    expect(clock.pending).toBe(0);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });
});
