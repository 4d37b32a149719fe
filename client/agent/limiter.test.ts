import { expect, test } from "vitest";
import { createLimiter, mapBounded } from "./limiter.ts";

/** Work that counts how much of it runs at once. */
function counted() {
  let running = 0;
  let most = 0;
  return {
    most: () => most,
    async work<T>(value: T): Promise<T> {
      most = Math.max(most, ++running);
      for (let turn = 0; turn < 3; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
      running--;
      return value;
    },
  };
}

test("a limiter never lets more than its number run, and uses all of it", async () => {
  const limiter = createLimiter(3);
  const { work, most } = counted();
  await Promise.all(Array.from({ length: 20 }, (_, index) => limiter.run(() => work(index))));
  expect(most()).toBe(3);
});

test("a failure gives its place back", async () => {
  const limiter = createLimiter(1);
  await expect(limiter.run(() => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
  await expect(limiter.run(async () => "done")).resolves.toBe("done");
});

test("bounded maps keep the order of the items", async () => {
  const { work, most } = counted();
  const items = Array.from({ length: 10 }, (_, index) => index);
  expect(await mapBounded(items, 4, work)).toEqual(items);
  expect(most()).toBe(4);
});
