import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { holdMs, QUIET_MS } from "./dampening.ts";

describe("flap dampening", () => {
  it("holds for 10 s, 60 s and 5 min, and no longer", () => {
    expect([1, 2, 3, 4, 1_000].map(holdMs)).toEqual([10_000, 60_000, 300_000, 300_000, 300_000]);
  });

  it("never holds a server for less the more often it has failed, nor for longer than it takes to be quiet", () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 31 }), (failures) => {
        expect(holdMs(failures)).toBeGreaterThan(0);
        expect(holdMs(failures + 1)).toBeGreaterThanOrEqual(holdMs(failures));
        expect(holdMs(failures)).toBeLessThanOrEqual(QUIET_MS);
      }),
    );
  });
});
