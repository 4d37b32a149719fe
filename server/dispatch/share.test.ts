import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dealtTo, fairShares } from "./share.ts";

const total = fc.nat({ max: 100_000 });
const weights = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 60 });
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

describe("fair shares (I4)", () => {
  it("add up to the total and differ by at most one when weights are equal", () => {
    fc.assert(
      fc.property(
        total,
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 1000 }),
        (due, count, weight) => {
          const shares = fairShares(due, Array<number>(count).fill(weight));
          expect(sum(shares)).toBe(due);
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
          shares.forEach((share, rank) => {
            expect(share).toBe(Math.floor(due / count) + (rank < due % count ? 1 : 0));
          });
        },
      ),
    );
  });

  it("add up to the total and stay within one of the quota whatever the weights", () => {
    fc.assert(
      fc.property(total, weights, (due, all) => {
        const shares = fairShares(due, all);
        expect(sum(shares)).toBe(due);
        shares.forEach((share, rank) => {
          expect(Math.abs(share - (due * (all[rank] ?? 0)) / sum(all))).toBeLessThan(1);
        });
      }),
    );
  });

  it("are none for no dispatchers", () => {
    expect(fairShares(5, [])).toEqual([]);
  });
});

describe("the deal", () => {
  it("gives every item to exactly one rank, and each rank what it is owed", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 12 }),
        fc.nat({ max: 20 }),
        (owed, extra) => {
          const items = Array.from({ length: sum(owed) + extra }, (_, index) => index);
          const hands = owed.map((_, rank) => dealtTo(rank, items, owed));
          expect(hands.map((hand) => hand.length)).toEqual(owed);
          expect(hands.flat().sort((a, b) => a - b)).toEqual(items.slice(0, sum(owed)));
        },
      ),
    );
  });

  it("gives position p to rank p mod N when all are owed the same", () => {
    expect(dealtTo(1, ["a", "b", "c", "d", "e", "f"], [2, 2, 2])).toEqual(["b", "e"]);
  });

  it("stops when there are fewer items than owed", () => {
    expect([0, 1].map((rank) => dealtTo(rank, ["a", "b", "c"], [5, 5]))).toEqual([["a", "c"], ["b"]]);
  });
});
