import { expect, test } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createWaker } from "./waker.ts";

const never = new AbortController().signal;

test("a wait ends with its time, with a wake under way, and at once with one before", async () => {
  const clock = createFakeClock();
  const waker = createWaker(clock);
  const timed = waker.wait(1_000, never);
  await clock.advance(1_000);
  await timed;
  const woken = waker.wait(1_000, never);
  waker.wake();
  await woken;
  waker.wake();
  await waker.wait(1_000, never);
  expect(clock.pending).toBe(0);
  const next = waker.wait(1_000, never);
  expect(clock.pending).toBe(1);
  await clock.advance(1_000);
  await next;
});

test("a wait rejects when its signal aborts", async () => {
  const clock = createFakeClock();
  const abort = new AbortController();
  const wait = createWaker(clock).wait(1_000, abort.signal);
  abort.abort(new Error("stop"));
  await expect(wait).rejects.toThrow("stop");
  expect(clock.pending).toBe(0);
});
