import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { runTasks, type Task } from "./run-tasks.ts";

const untilAborted: Task = (signal) =>
  new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));

describe("tasks that run together", () => {
  it("end when all are done", async () => {
    const done: number[] = [];
    await runTasks(
      new AbortController().signal,
      async () => void done.push(1),
      async () => void done.push(2),
    );
    expect(done).toEqual([1, 2]);
  });

  it("stop with the first that fails, are awaited, and fail with its error", async () => {
    const failure = new Error("first");
    let cleaned = false;
    const slow: Task = async (signal) => {
      await untilAborted(signal).catch(() => {});
      await new Promise((resolve) => setImmediate(resolve));
      cleaned = true;
      throw new Error("second");
    };
    const failing: Task = async () => {
      throw failure;
    };
    await expect(runTasks(new AbortController().signal, slow, failing)).rejects.toBe(failure);
    expect(cleaned).toBe(true);
  });

  it("stop without an error when the signal aborts", async () => {
    const controller = new AbortController();
    const running = runTasks(controller.signal, untilAborted, untilAborted);
    controller.abort();
    await running;
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
    await runTasks(controller.signal, async (signal) => expect(signal.aborted).toBe(true));
  });
});
