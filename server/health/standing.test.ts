import { describe, expect, it } from "vitest";
import { timestampMs } from "../../common/time.ts";
import { createHealthWorld, VOTES, type WorldVote } from "../../test/support/health-world.ts";

const OBSERVERS = ["d1", "d2", "d3"];
/** After the grace of a replica that has just begun. */
const GRACE_MS = 2_000;
const SETTLE_MS = 150;

/** Three observers of a server `s`, and others that keep the brake away. */
function worldOf(servers = 8) {
  const world = createHealthWorld();
  for (const id of OBSERVERS) world.addDispatcher(id);
  world.register("s");
  for (let index = 1; index < servers; index++) world.register(`other${index}`);
  world.settle(GRACE_MS);
  const votes = (...given: (WorldVote | undefined)[]) => {
    for (const [index, vote] of given.entries()) world.vote(OBSERVERS[index] ?? "", "s", vote);
  };
  return { world, votes };
}

function down() {
  const { world, votes } = worldOf();
  votes(VOTES.refused, VOTES.refused, VOTES.refused);
  world.settle(1_000);
  expect(world.stateOf("s")).toBe("DOWN REFUSALS");
  return { world, votes };
}

describe("the standing of a conference server", () => {
  it.each([
    ["refusals", VOTES.refused, VOTES.refused, "DOWN REFUSALS"],
    ["timeouts", VOTES.silent, VOTES.silent, "DOWN TIMEOUTS"],
    ["both", VOTES.silent, VOTES.refused, "DOWN TIMEOUTS"],
    ["too few refusals", VOTES.refused, VOTES.refusedOnce, "SUSPECT REFUSALS"],
    ["too few timeouts", VOTES.silent, VOTES.silentOnce, "SUSPECT TIMEOUTS"],
    ["a refusal and an answer", VOTES.refused, VOTES.answers, "UP REGISTERED"],
  ])("follows from a majority's %s", (_what, first, second, state) => {
    const { world, votes } = worldOf();
    votes(first, second);
    world.settle(10_000);
    expect(world.stateOf("s")).toBe(state);
  });

  it("I8: is never changed by one observer of three, whatever it reports and however long", () => {
    for (const vote of Object.values(VOTES))
      for (const id of OBSERVERS) {
        const { world } = worldOf();
        world.vote(id, "s", { ...vote, inARow: 1000 });
        expect(world.settle(60_000)).toBe(0);
      }
  });

  it("I8: is at worst SUSPECT by two of three when one of them has withdrawn", () => {
    const { world, votes } = worldOf();
    votes(VOTES.refused, VOTES.refused);
    world.withdraw("d1", true);
    world.settle(10_000);
    expect(world.stateOf("s")).toBe("SUSPECT REFUSALS");
  });

  it("I8: is not changed by two of three when one of them has died", () => {
    const { world, votes } = worldOf();
    votes(VOTES.refused, VOTES.refused);
    world.addDispatcher("d4");
    world.removeDispatcher("d1");
    expect(world.settle(10_000)).toBe(0);
  });

  it("I8: is held by the brake with all that observers see who have withdrawn, until an operator has looked", () => {
    const { world } = worldOf();
    const silent = ["s", ...Array.from({ length: 4 }, (_, index) => `other${index + 1}`)];
    for (const id of OBSERVERS) {
      world.withdraw(id, true);
      for (const serverId of silent) world.vote(id, serverId, VOTES.silent);
    }
    world.settle(60_000);
    for (const serverId of silent) expect(world.stateOf(serverId)).toBe("SUSPECT HELD_BY_BRAKE");
    world.release(world.nowMs + 60_000);
    world.settle(1_000);
    for (const serverId of silent) expect(world.stateOf(serverId)).toBe("DOWN TIMEOUTS");
  });

  it("is SUSPECT at once, and DOWN only when the majority has stood for the settling time", () => {
    const { world, votes } = worldOf();
    votes(VOTES.refused, VOTES.refused);
    world.judge();
    expect(world.stateOf("s")).toBe("SUSPECT REFUSALS");
    world.settle(SETTLE_MS - 1, 10);
    expect(world.stateOf("s")).toBe("SUSPECT REFUSALS");
    votes(undefined);
    world.settle(500, 10);
    expect(world.stateOf("s")).toBe("UP ANSWERS");
    votes(VOTES.refused);
    world.settle(SETTLE_MS - 1, 10);
    expect(world.stateOf("s")).toBe("SUSPECT REFUSALS");
    world.settle(200, 10);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
  });

  it("says who says what", () => {
    const { world, votes } = worldOf();
    votes(
      { ...VOTES.refused, detail: "connection refused" },
      { ...VOTES.silent, detail: "no answer in 750 ms" },
    );
    world.settle(1_000);
    expect(world.server("s").health?.message).toBe(
      "2 of 3 observers call it failed: d1 connection refused, d2 no answer in 750 ms",
    );
  });

  it("does not go DOWN within the grace of a replica", () => {
    const { world, votes } = worldOf();
    world.forget();
    votes(VOTES.refused, VOTES.refused, VOTES.refused);
    world.settle(GRACE_MS - 1, 10);
    expect(world.stateOf("s")).toBe("SUSPECT REFUSALS");
    world.settle(SETTLE_MS, 10);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
  });

  it("is DOWN until a majority hears it and its time has passed; silence of observers is no answer", () => {
    const { world, votes } = down();
    votes(undefined, undefined, undefined);
    world.settle(60_000);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
    votes(VOTES.answers);
    world.settle(1_000);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
    votes(VOTES.answers, VOTES.answers);
    world.settle(100);
    expect(world.stateOf("s")).toBe("UP ANSWERS");
  });

  it("comes back after 10 s, 60 s and 5 min, and after 10 s again when it was quiet for 5 min", () => {
    const { world, votes } = worldOf();
    const flap = () => {
      votes(VOTES.refused, VOTES.refused);
      world.settle(1_000, 10);
      const { failures, downTime, holdUntil } = world.server("s").health ?? {};
      expect(world.stateOf("s")).toBe("DOWN REFUSALS");
      if (!downTime || !holdUntil) throw new Error("no times");
      const heldMs = timestampMs(holdUntil) - timestampMs(downTime);
      votes(VOTES.answers, VOTES.answers);
      world.settle(timestampMs(holdUntil) - world.nowMs - 1, 100);
      expect(world.stateOf("s")).toBe("DOWN DAMPENED");
      world.settle(1, 1);
      expect(world.stateOf("s")).toBe("UP ANSWERS");
      votes(undefined, undefined);
      return { failures, heldMs };
    };
    expect(flap()).toEqual({ failures: 1, heldMs: 10_000 });
    expect(flap()).toEqual({ failures: 2, heldMs: 60_000 });
    expect(flap()).toEqual({ failures: 3, heldMs: 300_000 });
    expect(flap()).toEqual({ failures: 4, heldMs: 300_000 });
    world.settle(290_000, 1_000);
    expect(world.server("s").health?.failures).toBe(4);
    world.settle(11_000, 1_000);
    expect(world.server("s").health).toMatchObject({ failures: 0 });
    expect(world.server("s").health?.holdUntil).toBeUndefined();
    expect(flap()).toEqual({ failures: 1, heldMs: 10_000 });
  });

  it("is UP at once with a new incarnation, and stays DOWN when it had failed until its time has passed", () => {
    const { world, votes } = worldOf();
    votes(VOTES.refused, VOTES.refused);
    world.judge();
    expect(world.stateOf("s")).toBe("SUSPECT REFUSALS");
    world.register("s");
    expect(world.stateOf("s")).toBe("UP REGISTERED");
    expect(world.settle(1_000)).toBe(0);

    votes(VOTES.refused, VOTES.refused);
    world.settle(1_000);
    world.register("s");
    expect(world.stateOf("s")).toBe("DOWN DAMPENED");
    world.settle(60_000);
    expect(world.stateOf("s")).toBe("DOWN DAMPENED");
    votes(VOTES.answers, VOTES.answers);
    world.settle(500);
    expect(world.stateOf("s")).toBe("UP ANSWERS");

    votes(VOTES.refused, VOTES.refused);
    world.settle(61_000);
    world.register("s");
    expect(world.stateOf("s")).toBe("UP REGISTERED");
    expect(world.server("s").health).toMatchObject({ failures: 2 });
  });

  it("is SUSPECT while it restarts as its agent said, and DOWN when it is not back by then", () => {
    const { world, votes } = worldOf();
    world.register("s", { restartWithinMs: 30_000, isNewLife: false });
    votes(VOTES.refused, VOTES.refused, VOTES.refused);
    world.settle(29_000);
    expect(world.stateOf("s")).toBe("SUSPECT RESTARTING");
    expect(world.server("s").health?.message).toContain("may restart until 2030-01-01T00:00:32.000Z; 3 of 3");
    world.settle(1_000);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
  });

  it("I8: is not DOWN when it is back as its agent said, before its observers can hear it, and is when they do not", () => {
    const { world, votes } = worldOf();
    world.register("s", { restartWithinMs: 30_000, isNewLife: false });
    votes(VOTES.refused, VOTES.refused, VOTES.refused);
    world.settle(5_000);
    world.register("s", { isNewLife: false });
    world.settle(1_500);
    expect(world.stateOf("s")).toBe("SUSPECT RESTARTING");
    // Again and again, as agents do, it is given no more time.
    world.register("s", { isNewLife: false });
    world.settle(3_000);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
  });

  it("forgets an announced restart with the next registration", () => {
    const { world, votes } = worldOf();
    world.register("s", { restartWithinMs: 30_000, isNewLife: false });
    world.register("s");
    expect(world.server("s").health?.restartDeadline).toBeUndefined();
    votes(VOTES.refused, VOTES.refused);
    world.settle(1_000);
    expect(world.stateOf("s")).toBe("DOWN REFUSALS");
  });

  it("is DOWN by the one observer that there is, and never without any", () => {
    const world = createHealthWorld();
    for (const id of ["s", "t", "u"]) world.register(id);
    world.addDispatcher("d1");
    world.settle(GRACE_MS);
    world.vote("d1", "s", VOTES.silent);
    world.removeDispatcher("d1");
    expect(world.settle(10_000)).toBe(0);
    world.addDispatcher("d1");
    world.vote("d1", "s", VOTES.silent);
    world.settle(1_000);
    expect(world.stateOf("s")).toBe("DOWN TIMEOUTS");
  });
});
