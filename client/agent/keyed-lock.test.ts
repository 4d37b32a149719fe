import { expect, test } from "vitest";
import { createKeyedLock, LockBusyError } from "./keyed-lock.ts";

test("work for one key goes one after the other, work for others overlaps", async () => {
  const locks = createKeyedLock(10);
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = locks.run("a", async () => {
    log.push("a1 begins");
    await gate.promise;
    log.push("a1 ends");
  });
  const second = locks.run("a", async () => log.push("a2"));
  await locks.run("b", async () => log.push("b"));
  gate.resolve();
  await Promise.all([first, second]);
  expect(log).toEqual(["a1 begins", "b", "a1 ends", "a2"]);
});

test("a failure is the caller's and holds up nobody", async () => {
  const locks = createKeyedLock(10);
  const failing = locks.run("a", () => Promise.reject(new Error("broken")));
  const next = locks.run("a", async () => "done");
  await expect(failing).rejects.toThrow("broken");
  await expect(next).resolves.toBe("done");
});

test("too many for one key are refused until one is through", async () => {
  const locks = createKeyedLock(1);
  const gate = Promise.withResolvers<void>();
  const first = locks.run("a", () => gate.promise);
  await expect(locks.run("a", async () => "never")).rejects.toThrow(LockBusyError);
  gate.resolve();
  await first;
  await expect(locks.run("a", async () => "done")).resolves.toBe("done");
});
