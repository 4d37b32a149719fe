import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fairShares } from "../dispatch/share.ts";
import { createDeal, type DealtItem } from "./deal.ts";

const due = (id: string): DealtItem => ({ id, isDue: true });
const later = (id: string): DealtItem => ({ id, isDue: false });
const many = (count: number, prefix: string, item = due) =>
  Array.from({ length: count }, (_, index) => item(`${prefix}${index}`));

function countsOf(deal: { rankOf(id: string): number | undefined }, ids: readonly string[], ranks: number) {
  const counts = Array<number>(ranks).fill(0);
  for (const id of ids) {
    const rank = deal.rankOf(id);
    if (rank !== undefined) counts[rank] = (counts[rank] ?? 0) + 1;
  }
  return counts;
}

describe("the deal of a round", () => {
  it("gives each rank exactly its fair share of what is due, also of what comes up later (I4)", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.nat({ max: 100 }),
        fc.nat({ max: 100 }),
        fc.array(fc.boolean(), { maxLength: 100 }),
        (ranks, first, notDue, arrivals) => {
          const deal = createDeal();
          deal.begin(Array<number>(ranks).fill(3), [...many(first, "a"), ...many(notDue, "z", later)]);
          const ids = many(first, "a").map(({ id }) => id);
          arrivals.forEach((isDue, index) => {
            const id = `${isDue ? "b" : "y"}${index}`;
            deal.add({ id, isDue });
            if (isDue) ids.push(id);
            expect(countsOf(deal, ids, ranks)).toEqual(fairShares(ids.length, Array<number>(ranks).fill(3)));
          });
        },
      ),
    );
  });

  it("goes round the ranks in order of start when they weigh the same", () => {
    const deal = createDeal();
    deal.begin([1, 1, 1], many(6, "c"));
    expect([0, 1, 2, 3, 4, 5].map((index) => deal.rankOf(`c${index}`))).toEqual([0, 1, 2, 0, 1, 2]);
  });

  it("gives heavier ranks more, early and late alike", () => {
    const deal = createDeal();
    deal.begin([3, 1], many(8, "c"));
    expect(many(8, "c").map(({ id }) => deal.rankOf(id))).toEqual([0, 0, 1, 0, 0, 0, 1, 0]);
  });

  it("leaves where it is what was dealt before, and forgets it with the round", () => {
    const deal = createDeal();
    deal.begin([1, 1], [due("a"), due("b")]);
    deal.add(due("a"));
    deal.add(due("c"));
    expect(["a", "b", "c"].map((id) => deal.rankOf(id))).toEqual([0, 1, 0]);
    deal.begin([1, 1], [due("b")]);
    expect(["a", "b"].map((id) => deal.rankOf(id))).toEqual([undefined, 0]);
  });

  it("deals nothing to nobody", () => {
    const deal = createDeal();
    deal.add(due("a"));
    deal.begin([], [due("b")]);
    deal.add(due("c"));
    expect(["a", "b", "c"].map((id) => deal.rankOf(id))).toEqual([undefined, undefined, undefined]);
  });
});
