import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { createFakeClock } from "../test/support/fake-clock.ts";
import { sleep, systemClock } from "./clock.ts";

describe("sleep", () => {
  it("ends on time, or with the signal's reason, and leaves nothing behind", async () => {
    const clock = createFakeClock();
    const controller = new AbortController();
    const slept = sleep(clock, 100, controller.signal);
    await clock.advance(100);
    await slept;
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
    const cut = sleep(clock, 100, controller.signal);
    controller.abort(new Error("enough"));
    await expect(cut).rejects.toThrow("enough");
    await expect(sleep(clock, 100, controller.signal)).rejects.toThrow("enough");
    expect(clock.pending).toBe(0);
  });
});

describe("the system's clock", () => {
  it("does not fire at once what is more than 25 days away", async () => {
    let fired = false;
    const timer = systemClock.setTimer(() => {
      fired = true;
    }, 2 ** 32);
    await new Promise<void>((resolve) => systemClock.setTimer(resolve, 5));
    expect(fired).toBe(false);
    timer.clear();
  });
});
