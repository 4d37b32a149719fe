import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { highestRanked } from "./rendezvous.ts";

const names = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/), { minLength: 1, maxLength: 12 });

describe("highestRanked", () => {
  it("gives each key as many different members as asked for, whatever their order", () => {
    fc.assert(
      fc.property(fc.string(), names, fc.nat(5), (key, members, count) => {
        const ranked = highestRanked(key, members, count);
        expect(new Set(ranked).size).toBe(Math.min(count, members.length));
        expect(highestRanked(key, members.toReversed(), count)).toEqual(ranked);
      }),
    );
  });

  it("moves nothing but what a member that leaves ranked high for", () => {
    fc.assert(
      fc.property(fc.string(), names, fc.nat(5), (key, members, count) => {
        const ranked = highestRanked(key, members, count);
        for (const gone of members) {
          const left = highestRanked(
            key,
            members.filter((member) => member !== gone),
            count,
          );
          expect(left.filter((member) => ranked.includes(member))).toEqual(
            ranked.filter((member) => member !== gone),
          );
        }
      }),
    );
  });

  it("spreads keys evenly over members whose names are alike", () => {
    const members = ["d1", "d2", "d3", "d4"];
    const counts = new Map<string, number>();
    for (let index = 0; index < 4_000; index++) {
      const [first = ""] = highestRanked(`s${index}`, members, 1);
      counts.set(first, (counts.get(first) ?? 0) + 1);
    }
    for (const member of members) expect(Math.abs((counts.get(member) ?? 0) - 1_000)).toBeLessThan(150);
  });
});
