import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fairShares, handOf } from "./share.ts";

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

describe("a hand", () => {
  const debts = fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 12 });
  const deals = fc.array(fc.option(fc.nat({ max: 14 })), { maxLength: 600 });

  it("gives no item to two ranks, to each no more than it is owed, and all that is owed when there is enough", () => {
    fc.assert(
      fc.property(debts, deals, (owed, fallen) => {
        const items = fallen.map((_, index) => index);
        const rankOf = (item: number) => fallen[item] ?? undefined;
        const hands = owed.map((_, rank) => {
          const { dealt, rest } = handOf(rank, items, owed, rankOf);
          return [...dealt, ...rest];
        });
        expect(new Set(hands.flat()).size).toBe(hands.flat().length);
        hands.forEach((hand, rank) => {
          expect(hand.length).toBeLessThanOrEqual(owed[rank] ?? 0);
        });
        expect(hands.flat().length).toBe(Math.min(sum(owed), items.length));
      }),
    );
  });

  it("stays the same while others take theirs, in whatever order and however much at a time", () => {
    fc.assert(
      fc.property(debts, deals, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 5 }))), (owed, fallen, moves) => {
        const rankOf = (item: number) => fallen[item] ?? undefined;
        let items = fallen.map((_, index) => index);
        const left = [...owed];
        const handNow = (rank: number) => {
          const { dealt, rest } = handOf(rank, items, left, rankOf);
          return [...dealt, ...rest];
        };
        const atFirst = owed.map((_, rank) => new Set(handNow(rank)));
        for (const [pick, count] of moves) {
          const rank = pick % owed.length;
          const taken = handNow(rank).slice(0, count);
          for (const item of taken) expect(atFirst[rank]?.has(item)).toBe(true);
          items = items.filter((item) => !taken.includes(item));
          left[rank] = (left[rank] ?? 0) - taken.length;
        }
      }),
    );
  });

  it("is what fell to the rank when deal and debts agree", () => {
    const fallen = [0, 1, 2, 0, 1, 2, 0];
    const rankOf = (item: number) => fallen[item];
    expect(handOf(1, [0, 1, 2, 3, 4, 5, 6], [3, 2, 2], rankOf)).toEqual({ dealt: [1, 4], rest: [] });
  });
});
