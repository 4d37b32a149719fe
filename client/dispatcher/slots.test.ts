import { describe, expect, it } from "vitest";
import { createSlots } from "./slots.ts";

describe("slots", () => {
  it("run a bounded number at once, in order, and survive failures and waiters that give up", async () => {
    const slots = createSlots(2);
    const { signal } = new AbortController();
    const impatient = new AbortController();
    const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
    const begun: number[] = [];
    const runs = gates.map(({ promise }, index) =>
      slots.run(index === 2 ? impatient.signal : signal, async () => {
        begun.push(index);
        await promise;
      }),
    );
    const outcomes = Promise.allSettled(runs);
    expect(begun).toEqual([0, 1]);
    impatient.abort(new Error("gave up"));
    gates[0]?.reject(new Error("failed"));
    await expect(runs[0]).rejects.toThrow("failed");
    await expect(runs[2]).rejects.toThrow("gave up");
    expect(begun).toEqual([0, 1, 3]);
    for (const { resolve } of gates) resolve();
    expect((await outcomes).map(({ status }) => status)).toEqual([
      "rejected",
      "fulfilled",
      "rejected",
      "fulfilled",
      "fulfilled",
    ]);
    expect(begun).toEqual([0, 1, 3, 4]);
  });
});
