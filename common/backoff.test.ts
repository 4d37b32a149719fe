import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createBackoff } from "./backoff.ts";

describe("a backoff", () => {
  it("doubles up to the maximum, between half and all of it, and starts over after a success", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 0.999, noNaN: true }), (random) => {
        const backoff = createBackoff({ initialMs: 100, maxMs: 450, random: () => random });
        for (const upperMs of [100, 200, 400, 450, 450]) {
          const delayMs = backoff.nextMs();
          expect(delayMs).toBeGreaterThanOrEqual(upperMs / 2);
          expect(delayMs).toBeLessThanOrEqual(upperMs);
        }
        backoff.reset();
        expect(backoff.nextMs()).toBeLessThanOrEqual(100);
      }),
    );
  });
});
