import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLeaseHeap } from "./lease-heap.ts";

describe("lease heap", () => {
  it("gives IDs by time, whatever the order they came in", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50)), (times) => {
        const heap = createLeaseHeap();
        times.forEach((atMs, index) => {
          heap.push(BigInt(index + 1), atMs);
        });
        const popped: number[] = [];
        while (heap.size > 0) {
          const atMs = heap.peekMs();
          const leaseId = heap.pop();
          expect(times[Number(leaseId) - 1]).toBe(atMs);
          popped.push(atMs ?? -1);
        }
        expect(popped).toEqual([...times].sort((a, b) => a - b));
      }),
    );
  });

  it("keeps order when pushes and pops mix", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(50), { nil: undefined })), (steps) => {
        const heap = createLeaseHeap();
        const model: number[] = [];
        for (const step of steps) {
          if (step !== undefined) {
            heap.push(1n, step);
            model.push(step);
            model.sort((a, b) => a - b);
          } else {
            expect(heap.peekMs()).toBe(model.shift());
            heap.pop();
          }
        }
        expect(heap.size).toBe(model.length);
      }),
    );
  });

  it("is empty at first", () => {
    const heap = createLeaseHeap();
    expect(heap.peekMs()).toBeUndefined();
    expect(heap.pop()).toBeUndefined();
  });
});
