import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createKeys } from "../store/keys.ts";
import type { ConferenceEntry } from "../view/conference-entry.ts";
import { View } from "../view/view.ts";
import { type Account, owedShares, type RoundAccounts, roundAccounts, takeoverConferences } from "./round.ts";

const account = fc
  .record({ taken: fc.nat({ max: 20 }), share: fc.nat({ max: 20 }) })
  .map(({ taken, share }): Account => ({ dispatcherId: "d", epoch: 1n, taken, share }));
const accountsOf = (members: readonly Account[]): RoundAccounts => ({ members, total: 0, untaken: 0 });
/** Taking over looks at nothing but whether an entry is overdue. */
const entriesOf = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ id: `c${index}` }) as ConferenceEntry);

describe("the accounts of a round", () => {
  it("owe nobody less than nothing", () => {
    fc.assert(
      fc.property(fc.array(account), (members) => {
        owedShares(accountsOf(members)).forEach((owed, rank) => {
          const { share = 0, taken = 0 } = members[rank] ?? {};
          expect(owed).toBe(share > taken ? share - taken : 0);
        });
      }),
    );
  });

  it("are empty when nobody is registered", () => {
    const view = new View(createKeys(), createFakeClock());
    expect(roundAccounts(view, 0, 1_000)).toEqual({ members: [], total: 0, untaken: 0 });
  });
});

describe("what others have left", () => {
  it("goes to those who are owed nothing, each to one of them", () => {
    fc.assert(
      fc.property(
        fc.array(account, { minLength: 1, maxLength: 8 }),
        fc.nat({ max: 40 }),
        (members, count) => {
          const accounts = accountsOf(members);
          const entries = entriesOf(count);
          const isOverdue = ({ id }: ConferenceEntry) => Number(id.slice(1)) % 3 !== 0;
          const hands = members.map((_, rank) => takeoverConferences(rank, accounts, entries, isOverdue));
          const owed = owedShares(accounts);
          hands.forEach((hand, rank) => {
            if ((owed[rank] ?? 0) > 0) expect(hand).toEqual([]);
          });
          const overdue = owed.includes(0) ? entries.filter(isOverdue) : [];
          expect(
            hands
              .flat()
              .map(({ id }) => id)
              .sort(),
          ).toEqual(overdue.map(({ id }) => id).sort());
          expect(takeoverConferences(-1, accounts, entries, isOverdue)).toEqual([]);
        },
      ),
    );
  });
});
