import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { brakeAllowance } from "../../common/detection.ts";
import { highestRanked } from "../../common/rendezvous.ts";
import { timestampMs } from "../../common/time.ts";
import { Observation_Verdict } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { createHealthWorld, type HealthWorld, VOTES } from "../../test/support/health-world.ts";
import { assessBrake } from "./assess.ts";
import { createObservers } from "./votes.ts";

const GRACE_MS = 2_000;
const DISPATCHERS = ["d1", "d2", "d3", "d4", "d5"];

function worldOf(servers: number) {
  const world = createHealthWorld();
  for (const id of DISPATCHERS.slice(0, 3)) world.addDispatcher(id);
  const ids = Array.from({ length: servers }, (_, index) => `s${String(index).padStart(2, "0")}`);
  for (const id of ids) world.register(id);
  world.settle(GRACE_MS);
  return { world, ids };
}

function voteAll(world: HealthWorld, ids: readonly string[], vote: (typeof VOTES)[keyof typeof VOTES]) {
  for (const id of ids) for (const dispatcher of DISPATCHERS) world.vote(dispatcher, id, vote);
}

const states = (world: HealthWorld, ids: readonly string[]) => new Set(ids.map((id) => world.stateOf(id)));

describe("an assessment of all servers", () => {
  it("holds ten of twenty that fail together for as long as they do, and says so", () => {
    const { world, ids } = worldOf(20);
    const frozen = ids.slice(0, 10);
    voteAll(world, frozen, VOTES.silentOnce);
    world.settle(1_000);
    voteAll(world, frozen, VOTES.silent);
    world.settle(600_000, 1_000);
    expect(states(world, frozen)).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
    expect(world.server("s03").health?.message).toBe(
      "held by the brake: 10 of 20 servers fail, 6 may; release it with `convoke release-brake` if they are really dead",
    );
    const brake = assessBrake(world.view, createObservers(world.settings), world.settings, world.nowMs);
    expect(brake.heldServerIds).toEqual(frozen);
    expect(states(world, ids.slice(10))).toEqual(new Set(["UP REGISTERED"]));
    voteAll(world, frozen, VOTES.answers);
    world.settle(5_000);
    expect(states(world, frozen)).toEqual(new Set(["UP ANSWERS"]));
  });

  it("lets one of eight go DOWN, and as many as may", () => {
    const { world, ids } = worldOf(8);
    voteAll(world, ids.slice(0, 2), VOTES.refused);
    world.settle(1_000);
    expect(states(world, ids.slice(0, 2))).toEqual(new Set(["DOWN REFUSALS"]));
    voteAll(world, ids.slice(2, 3), VOTES.refused);
    world.settle(30_000);
    expect(states(world, ids.slice(2, 3))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
    world.settle(31_000 + GRACE_MS);
    expect(states(world, ids.slice(2, 3))).toEqual(new Set(["DOWN REFUSALS"]));
  });

  it("moves nobody while a network heals at one server after the other, and then what is dead all the same", () => {
    const { world, ids } = worldOf(8);
    voteAll(world, ids.slice(0, 4), VOTES.silent);
    world.settle(10_000);
    expect(states(world, ids.slice(0, 4))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
    voteAll(world, ids.slice(0, 2), VOTES.answers);
    world.settle(GRACE_MS - 100);
    // Two of eight may fail; these two may be heard any moment.
    expect(states(world, ids.slice(2, 4))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
    voteAll(world, ids.slice(2, 3), VOTES.answers);
    world.settle(GRACE_MS);
    expect(states(world, ids.slice(0, 3))).toEqual(new Set(["UP ANSWERS"]));
    expect(world.stateOf("s03")).toBe("DOWN TIMEOUTS");
  });

  it("declares what it held when the brake is released, and holds again what fails after that", () => {
    const { world, ids } = worldOf(20);
    voteAll(world, ids.slice(0, 10), VOTES.silent);
    world.settle(10_000);
    world.release(world.nowMs + 60_000);
    world.settle(1_000);
    expect(states(world, ids.slice(0, 10))).toEqual(new Set(["DOWN TIMEOUTS"]));
    world.settle(59_000);
    voteAll(world, ids.slice(10, 14), VOTES.silent);
    world.settle(500);
    expect(states(world, ids.slice(10, 14))).toEqual(new Set(["SUSPECT TIMEOUTS"]));
    world.settle(1_000);
    // Of the ten that are left and not long DOWN three may fail.
    expect(states(world, ids.slice(10, 14))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
  });

  it("does not take drained servers whose agents end for a sick network, and takes those that are not yet empty", () => {
    const { world, ids } = worldOf(6);
    for (const id of ids.slice(0, 4)) world.drain(id, 0);
    voteAll(world, ids.slice(0, 5), VOTES.refused);
    world.settle(1_000);
    expect(states(world, ids.slice(0, 5))).toEqual(new Set(["DOWN REFUSALS"]));
    const another = worldOf(6);
    for (const id of another.ids.slice(0, 4)) another.world.drain(id, 1);
    voteAll(another.world, another.ids.slice(0, 5), VOTES.refused);
    another.world.settle(2_000);
    expect(states(another.world, another.ids.slice(0, 5))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
  });

  it("goes on counting a server that is drained when it is already DOWN (I8)", () => {
    const { world, ids } = worldOf(9);
    voteAll(world, ids.slice(0, 3), VOTES.refused);
    world.settle(1_000);
    expect(states(world, ids.slice(0, 3))).toEqual(new Set(["DOWN REFUSALS"]));
    for (const id of ids.slice(0, 2)) world.drain(id, 0);
    voteAll(world, ids.slice(3, 4), VOTES.refused);
    world.settle(2_000);
    expect(states(world, ids.slice(3, 4))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
  });

  it("does not take announced restarts for a sick network", () => {
    const { world, ids } = worldOf(20);
    for (const id of ids.slice(0, 10)) world.register(id, { restartWithinMs: 60_000, isNewLife: false });
    voteAll(world, ids.slice(0, 11), VOTES.refused);
    world.settle(5_000);
    expect(states(world, ids.slice(0, 10))).toEqual(new Set(["SUSPECT RESTARTING"]));
    expect(world.stateOf("s10")).toBe("DOWN REFUSALS");
    world.settle(60_000);
    expect(states(world, ids.slice(0, 10))).toEqual(new Set(["SUSPECT HELD_BY_BRAKE"]));
  });

  it("asks to be called when time alone changes something, and not before", () => {
    const { world, ids } = worldOf(8);
    expect(world.look().nextInMs).toBeUndefined();
    voteAll(world, ids.slice(0, 1), VOTES.refused);
    world.judge();
    for (let steps = 0; world.stateOf("s00") !== "DOWN REFUSALS"; steps++) {
      expect(steps).toBeLessThan(5);
      world.pass(world.look().nextInMs ?? Number.NaN);
      world.judge();
    }
    expect(world.nowMs).toBe(Date.UTC(2030, 0, 1) + GRACE_MS + 150);
    voteAll(world, ids.slice(0, 1), VOTES.answers);
    let steps = 0;
    for (; world.stateOf("s00") !== "UP ANSWERS"; steps++) {
      world.pass(world.look().nextInMs ?? Number.NaN);
      world.judge();
    }
    expect(steps).toBeLessThan(6);
    expect(world.nowMs).toBe(Date.UTC(2030, 0, 1) + GRACE_MS + 150 + 10_000);
  });

  it("writes a record at most every few seconds however often votes change what is said of it", () => {
    const { world, ids } = worldOf(20);
    voteAll(world, ids.slice(0, 8), VOTES.silent);
    world.settle(2_000);
    let written = 0;
    for (let round = 0; round < 60; round++) {
      for (const id of ids.slice(8, 10)) world.vote("d1", id, round % 2 ? VOTES.silent : undefined);
      for (const id of ids.slice(8, 10)) world.vote("d2", id, round % 2 ? VOTES.silent : undefined);
      written += world.settle(1_000);
    }
    // Eight held ones say how many others fail, every 5 s; two go back and forth between UP and SUSPECT every second.
    expect(written).toBeLessThanOrEqual(8 * 13 + 2 * 60 * 2);
  });

  const step = fc.oneof(
    {
      weight: 12,
      arbitrary: fc.record({
        kind: fc.constant("vote" as const),
        dispatcher: fc.nat({ max: 4 }),
        server: fc.nat({ max: 5 }),
        verdict: fc.constantFrom(...Object.keys(VOTES), "none"),
        isStale: fc.boolean(),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("pass" as const),
        ms: fc.constantFrom(50, 200, 3_000, 20_000),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("register" as const), server: fc.nat({ max: 5 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("leave" as const), dispatcher: fc.nat({ max: 4 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("join" as const), dispatcher: fc.nat({ max: 4 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("withdraw" as const),
        dispatcher: fc.nat({ max: 4 }),
        isWithdrawn: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const) }) },
  );

  it("I8: whatever is reported, moves only what a majority speaks of, within the brake, and settles", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const world = createHealthWorld();
        for (const id of DISPATCHERS) world.addDispatcher(id);
        const ids = ["s0", "s1", "s2", "s3", "s4", "s5"];
        for (const id of ids) world.register(id);
        const live = new Set(DISPATCHERS);
        const withdrawn = new Set<string>();
        let graceUntilMs = world.nowMs + GRACE_MS;
        /** Whether a majority votes in a way on a server, counted here anew from the rules. */
        const speaking = (
          id: string,
          speaks: (verdict: Observation_Verdict, inARow: number) => boolean,
          others: ReadonlySet<string> = withdrawn,
        ) =>
          highestRanked(id, live, 3).filter((dispatcher) => {
            const { observation, lease } = world.view.observations.ofServer(id).get(dispatcher) ?? {};
            if (!observation || others.has(dispatcher)) return false;
            if (observation.incarnation !== world.server(id).incarnation) return false;
            if (lease !== world.view.dispatchers.get(dispatcher)?.lease) return false;
            return speaks(observation.verdict, observation.inARow);
          }).length >
          Math.min(3, live.size) / 2;
        const check = () => {
          const before = new Map(ids.map((id) => [id, world.server(id)]));
          world.judge();
          const recent = ids.filter((id) => {
            const { downTime } = world.server(id).health ?? {};
            return downTime && world.nowMs - timestampMs(downTime) < world.settings.brakeWindowMs;
          });
          for (const id of ids) {
            const was = before.get(id) ?? world.server(id);
            const is = world.server(id);
            // Who has withdrawn makes suspect all the same.
            const isFailing = speaking(id, (verdict) => verdict !== Observation_Verdict.OK, new Set());
            if (is.state === Server_State.DOWN && was.state !== Server_State.DOWN) {
              expect(
                speaking(id, (verdict, inARow) =>
                  verdict === Observation_Verdict.FAILED
                    ? inARow >= 2
                    : verdict === Observation_Verdict.TIMEOUT && inARow >= 3,
                ),
              ).toBe(true);
              expect(world.nowMs).toBeGreaterThanOrEqual(graceUntilMs);
              expect(recent.length).toBeLessThanOrEqual(brakeAllowance(world.settings, ids.length));
            }
            if (is.state === Server_State.SUSPECT && was.state === Server_State.UP)
              expect(isFailing).toBe(true);
            if (is.state === Server_State.UP && was.state === Server_State.SUSPECT)
              expect(isFailing).toBe(false);
            if (is.state === Server_State.UP && was.state === Server_State.DOWN) {
              expect(speaking(id, (verdict) => verdict === Observation_Verdict.OK)).toBe(true);
              expect(world.nowMs).toBeGreaterThanOrEqual(
                timestampMs(was.health?.holdUntil ?? (undefined as never)),
              );
            }
          }
        };
        for (const given of steps) {
          if (given.kind === "pass") {
            for (let leftMs = given.ms; leftMs > 0; leftMs -= 1_000) {
              world.pass(Math.min(leftMs, 1_000));
              check();
            }
          } else if (given.kind === "forget") {
            world.forget();
            graceUntilMs = world.nowMs + GRACE_MS;
          } else if (given.kind === "register") {
            world.register(ids[given.server] ?? "");
          } else {
            const dispatcher = DISPATCHERS[given.dispatcher] ?? "";
            if (given.kind === "vote") {
              const id = ids[given.server] ?? "";
              const vote = VOTES[given.verdict as keyof typeof VOTES];
              const incarnation = world.server(id).incarnation - (given.isStale ? 1n : 0n);
              world.vote(dispatcher, id, vote && { ...vote, incarnation });
            } else if (given.kind === "withdraw") {
              world.withdraw(dispatcher, given.isWithdrawn);
              if (given.isWithdrawn) withdrawn.add(dispatcher);
              else withdrawn.delete(dispatcher);
            } else if (given.kind === "leave") {
              world.removeDispatcher(dispatcher);
              live.delete(dispatcher);
              withdrawn.delete(dispatcher);
            } else {
              world.addDispatcher(dispatcher);
              live.add(dispatcher);
            }
          }
          check();
        }
        // When nothing changes any more, neither this replica nor another one writes again and again.
        world.settle(700_000, 10_000);
        expect(world.settle(20_000, 1_000)).toBe(0);
        world.forget();
        expect(world.settle(20_000, 1_000)).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
