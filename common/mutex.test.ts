import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { createMutex } from "./mutex.ts";

describe("a mutex", () => {
  it("lets one in at a time, in order of asking", async () => {
    const mutex = createMutex();
    const order: string[] = [];
    let inside = 0;
    await Promise.all(
      ["a", "b", "c", "d"].map(async (name) => {
        using _lock = await mutex.acquire();
        inside += 1;
        expect(inside).toBe(1);
        order.push(name);
        await new Promise((resolve) => setImmediate(resolve));
        inside -= 1;
      }),
    );
    expect(order).toEqual(["a", "b", "c", "d"]);
  });

  it("passes over those who gave up waiting, and waits for who is inside", async () => {
    const mutex = createMutex();
    const first = await mutex.acquire();
    const controller = new AbortController();
    const given = mutex.acquire(controller.signal);
    let entered = false;
    const third = mutex.acquire().then((lock) => {
      entered = true;
      return lock;
    });
    controller.abort(new Error("enough"));
    await expect(given).rejects.toThrow("enough");
    await new Promise((resolve) => setImmediate(resolve));
    expect(entered).toBe(false);
    first[Symbol.dispose]();
    (await third)[Symbol.dispose]();
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });

  it("lets nobody in whose signal has aborted, even when it is free", async () => {
    const mutex = createMutex();
    await expect(mutex.acquire(AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
    using _lock = await mutex.acquire();
  });
});
