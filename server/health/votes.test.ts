import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { highestRanked } from "../../common/rendezvous.ts";
import { createHealthWorld, VOTES } from "../../test/support/health-world.ts";
import { createObservers, tallyVotes } from "./votes.ts";

const IDS = ["d1", "d2", "d3", "d4", "d5", "d6"];

function worldOf(dispatchers: number) {
  const world = createHealthWorld();
  for (const id of IDS.slice(0, dispatchers)) world.addDispatcher(id);
  world.register("s");
  const observers = createObservers(world.settings);
  const tally = () =>
    tallyVotes(world.view, world.server("s"), observers(world.view, "s"), world.settings, world.nowMs);
  return { world, tally, observers: () => observers(world.view, "s") };
}

describe("votes", () => {
  it("are those of the observers by rendezvous hashing, also after the registry has changed", () => {
    const { world, observers } = worldOf(6);
    expect(observers()).toEqual(highestRanked("s", IDS, 3));
    const [first = ""] = observers();
    world.removeDispatcher(first);
    expect(observers()).toEqual(
      highestRanked(
        "s",
        IDS.filter((id) => id !== first),
        3,
      ),
    );
  });

  it("need more than half of the observers, those included that say nothing", () => {
    for (const [dispatchers, majority] of [
      [0, 1],
      [1, 1],
      [2, 2],
      [3, 2],
      [6, 2],
    ] as const)
      expect(worldOf(dispatchers).tally().majority).toBe(majority);
  });

  it("do not count of a dispatcher that is no observer", () => {
    const { world, tally, observers } = worldOf(6);
    for (const id of IDS) world.vote(id, "s", VOTES.refused);
    expect(tally().failed.map(({ dispatcherId }) => dispatcherId)).toEqual([...observers()].sort());
  });

  it("I5: do not count of a former incarnation, nor of a former registration", () => {
    const { world, tally } = worldOf(3);
    world.vote("d1", "s", VOTES.refused);
    world.vote("d2", "s", VOTES.refused);
    expect(tally().failed).toHaveLength(2);
    world.addDispatcher("d1");
    expect(tally().failed.map(({ dispatcherId }) => dispatcherId)).toEqual(["d2"]);
    world.register("s");
    expect(tally().failed).toEqual([]);
  });

  it("do not count while their observer has withdrawn, who still counts as one", () => {
    const { world, tally } = worldOf(3);
    for (const id of IDS.slice(0, 3)) world.vote(id, "s", VOTES.silent);
    world.withdraw("d1", true);
    expect(tally()).toMatchObject({ observers: 3, majority: 2 });
    expect(tally().failed).toHaveLength(2);
    world.withdraw("d2", true);
    expect(tally().failed).toHaveLength(1);
    world.withdraw("d1", false);
    expect(tally().failed).toHaveLength(2);
  });

  it("call a server failed after two refusals or three failures in a row", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.boolean(), (inARow, isExplicit) => {
        const { world, tally } = worldOf(1);
        const { verdict } = isExplicit ? VOTES.refused : VOTES.silent;
        world.vote("d1", "s", { verdict, inARow });
        expect(tally().failing).toHaveLength(1);
        expect(tally().failed).toHaveLength(inARow >= (isExplicit ? 2 : 3) ? 1 : 0);
      }),
    );
  });
});
