import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { PlaceableServer, PlaceableTask, Reach } from "./candidates.ts";
import { planPlacements, serverKey } from "./placement.ts";

const server = (serverId: string, more: Partial<PlaceableServer> = {}): PlaceableServer => ({
  serverId,
  incarnation: 1n,
  state: Server_State.UP,
  cordoned: false,
  penalised: false,
  reach: "answers",
  region: "",
  labels: {},
  capacity: 100,
  reservedUnits: 0,
  ownUnits: 0,
  ...more,
});
interface TestTask extends PlaceableTask {
  readonly id: string;
}
const task = (id: string, more: Partial<PlaceableTask> = {}): TestTask => ({
  id,
  weight: 1,
  region: "",
  requiredLabels: {},
  preferredLabels: {},
  avoidedLabels: {},
  ...more,
});

const someLabels = fc.dictionary(fc.constantFrom("gpu", "zone"), fc.constantFrom("a", "b"), {
  noNullPrototype: true,
});
const someRegion = fc.constantFrom("", "eu", "us");
const someServers = fc.uniqueArray(
  fc.record({
    serverId: fc.stringMatching(/^s[0-9]{1,3}$/),
    incarnation: fc.bigInt(1n, 3n),
    state: fc.constantFrom(Server_State.UP, Server_State.UP, Server_State.SUSPECT, Server_State.DOWN),
    cordoned: fc.boolean(),
    penalised: fc.boolean(),
    reach: fc.constantFrom<Reach[]>("answers", "doubt", "fails"),
    region: someRegion,
    labels: someLabels,
    capacity: fc.integer({ min: 1, max: 200 }),
    reservedUnits: fc.integer({ min: 0, max: 220 }),
    ownUnits: fc.nat(50),
  }),
  { selector: ({ serverId }) => serverId, maxLength: 12 },
);
const someTasks = fc
  .array(
    fc.record({
      weight: fc.integer({ min: 1, max: 40 }),
      region: someRegion,
      requiredLabels: someLabels,
      preferredLabels: someLabels,
      avoidedLabels: someLabels,
      triedServers: fc.uniqueArray(fc.constantFrom("s1@1", "s2@1", "s3@2")).map((keys) => new Set(keys)),
    }),
    { maxLength: 60 },
  )
  .map((tasks) => tasks.map((one, index): TestTask => ({ id: `c${index}`, ...one })));

const somePlace = fc.integer({ min: 1, max: 6 }).chain((dispatcherCount) =>
  fc.record({
    dispatcherCount: fc.constant(dispatcherCount),
    rank: fc.nat(dispatcherCount - 1),
    total: fc.nat(100),
    share: fc.nat(20),
  }),
);

/** How many units each server got. */
function loads(servers: readonly PlaceableServer[], plans: ReturnType<typeof planPlacements<TestTask>>[]) {
  const units = new Map(servers.map(({ serverId }) => [serverId, 0]));
  for (const { placed } of plans) {
    for (const one of placed) units.set(one.serverId, (units.get(one.serverId) ?? 0) + one.task.weight);
  }
  return units;
}

describe("a plan", () => {
  it("gives every task exactly one outcome, within capacity, on servers that pass the filters", () => {
    fc.assert(
      fc.property(someTasks, someServers, somePlace, (tasks, servers, place) => {
        const plan = planPlacements(tasks, servers, place);
        const ids = [...plan.placed, ...plan.unplaced].map((one) => one.task.id).sort();
        expect(ids).toEqual(tasks.map(({ id }) => id).sort());
        for (const [serverId, units] of loads(servers, [plan])) {
          const target = servers.find((one) => one.serverId === serverId);
          if (units > 0)
            expect(units + (target?.reservedUnits ?? 0)).toBeLessThanOrEqual(target?.capacity ?? 0);
        }
        for (const { task: placed, serverId, incarnation } of plan.placed) {
          const target = servers.find((one) => one.serverId === serverId);
          expect(target).toMatchObject({
            incarnation,
            state: Server_State.UP,
            cordoned: false,
            penalised: false,
          });
          expect(target?.labels).toMatchObject(placed.requiredLabels);
          if (placed.region !== "") expect(target?.region).toBe(placed.region);
          expect(placed.triedServers?.has(serverKey({ serverId, incarnation }))).toBe(false);
        }
      }),
    );
  });

  it("leaves a task out only when no server that passes the filters has room for it at the end", () => {
    fc.assert(
      fc.property(someTasks, someServers, somePlace, (tasks, servers, place) => {
        const plan = planPlacements(tasks, servers, place);
        const units = loads(servers, [plan]);
        for (const { task: left, reason } of plan.unplaced) {
          expect(reason).toMatch(/^(no conference server is registered|of \d+ servers: \d+ .+)$/);
          const couldHost = servers.filter(
            (one) =>
              one.state === Server_State.UP &&
              !one.cordoned &&
              !one.penalised &&
              one.reach !== "fails" &&
              (left.region === "" || left.region === one.region) &&
              Object.entries(left.requiredLabels).every(([key, value]) => one.labels[key] === value) &&
              !left.triedServers?.has(serverKey(one)) &&
              one.reservedUnits + (units.get(one.serverId) ?? 0) + left.weight <= one.capacity,
          );
          expect(couldHost).toEqual([]);
        }
      }),
    );
  });

  it("is the same for the same input, in whatever order the servers come", () => {
    fc.assert(
      fc.property(
        someTasks,
        someServers.chain((servers) =>
          fc.tuple(fc.constant(servers), fc.shuffledSubarray(servers, { minLength: servers.length })),
        ),
        somePlace,
        (tasks, [servers, shuffled], place) => {
          expect(planPlacements(tasks, shuffled, place)).toEqual(planPlacements(tasks, servers, place));
        },
      ),
    );
  });

  const shareOf = (total: number, dispatcherCount: number, rank: number) =>
    Math.floor(total / dispatcherCount) + (rank < total % dispatcherCount ? 1 : 0);

  /** The units on each server after several dispatchers have placed equal tasks, each in chunks, from the same figures. */
  function placeTogether(
    servers: readonly PlaceableServer[],
    total: number,
    dispatcherCount: number,
    chunkOf: (rank: number) => number = () => total + 1,
  ) {
    const units = new Map(servers.map(({ serverId, reservedUnits }) => [serverId, reservedUnits]));
    for (let rank = 0; rank < dispatcherCount; rank++) {
      const share = shareOf(total, dispatcherCount, rank);
      const own = new Map<string, number>();
      for (let done = 0; done < share; done += chunkOf(rank)) {
        const count = Math.min(chunkOf(rank), share - done);
        const tasks = Array.from({ length: count }, (_, index) => task(`c${rank}-${done + index}`));
        const seen = servers.map((one) => {
          const ownUnits = own.get(one.serverId) ?? 0;
          return { ...one, ownUnits, reservedUnits: one.reservedUnits + ownUnits };
        });
        const { placed } = planPlacements(tasks, seen, { dispatcherCount, rank, total, share });
        expect(placed).toHaveLength(count);
        for (const { serverId } of placed) {
          own.set(serverId, (own.get(serverId) ?? 0) + 1);
          units.set(serverId, (units.get(serverId) ?? 0) + 1);
        }
      }
    }
    return units;
  }
  const spreadOf = (units: ReadonlyMap<string, number>) =>
    Math.max(...units.values()) - Math.min(...units.values());
  const someTeam = fc.integer({ min: 1, max: 8 });

  it("spreads equal tasks over equal servers within one unit, with several dispatchers planning at once", () => {
    fc.assert(
      fc.property(
        someTeam,
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 600 }),
        (dispatcherCount, serverCount, total) => {
          const servers = Array.from({ length: serverCount }, (_, index) =>
            server(`s${index}`, { capacity: 1000 }),
          );
          expect(spreadOf(placeTogether(servers, total, dispatcherCount))).toBeLessThanOrEqual(1);
        },
      ),
    );
  });

  it("spreads them within one unit for each dispatcher when the shares come in pieces at different times", () => {
    fc.assert(
      fc.property(
        someTeam,
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 600 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 8, maxLength: 8 }),
        (dispatcherCount, serverCount, total, chunks) => {
          const servers = Array.from({ length: serverCount }, (_, index) =>
            server(`s${index}`, { capacity: 1000 }),
          );
          const units = placeTogether(servers, total, dispatcherCount, (rank) => chunks[rank] ?? 1);
          expect(spreadOf(units)).toBeLessThanOrEqual(dispatcherCount);
        },
      ),
    );
  });

  it("does not fill the emptiest server with every dispatcher's tasks", () => {
    fc.assert(
      fc.property(
        someTeam,
        fc.array(fc.nat(90), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 0, max: 400 }),
        fc.integer({ min: 1, max: 100 }),
        (dispatcherCount, reserved, total, chunk) => {
          const servers = reserved.map((reservedUnits, index) =>
            server(`s${index}`, { capacity: 1000, reservedUnits }),
          );
          const together = placeTogether(servers, total, dispatcherCount, () => chunk);
          const alone = placeTogether(servers, total, 1);
          for (const [serverId, units] of together) {
            expect(Math.abs(units - (alone.get(serverId) ?? 0))).toBeLessThanOrEqual(dispatcherCount);
          }
        },
      ),
    );
  });

  it("keeps single tasks of several dispatchers apart", () => {
    const servers = ["a", "b", "c", "d"].map((id) => server(id));
    const chosen = [0, 1, 2, 3].map(
      (rank) =>
        planPlacements([task("c")], servers, { dispatcherCount: 4, rank, total: 44, share: 11 }).placed[0]
          ?.serverId,
    );
    expect(chosen).toEqual(["a", "b", "c", "d"]);
  });

  it("takes the largest first, so that what fits together is placed together", () => {
    const tasks = [task("small-1"), task("small-2"), task("large", { weight: 10 })];
    // In the order given the small ones would take some room on each.
    const plan = planPlacements(tasks, [server("a", { capacity: 10 }), server("b", { capacity: 10 })]);
    expect(plan.placed.map((one) => [one.task.id, one.serverId])).toEqual([
      ["large", "a"],
      ["small-1", "b"],
      ["small-2", "b"],
    ]);
  });

  it("takes the most urgent first, whatever their size", () => {
    const tasks = [
      task("drain", { weight: 9, urgency: 3 }),
      task("ordinary", { weight: 2, urgency: 2 }),
      task("lost", { weight: 1, urgency: 0 }),
    ];
    const plan = planPlacements(tasks, [server("a", { capacity: 3 })]);
    expect(plan.placed.map((one) => one.task.id)).toEqual(["lost", "ordinary"]);
  });

  it("goes to a server in doubt only when no other fits, and then to all of them alike", () => {
    const tasks = ["c1", "c2", "c3"].map((id) => task(id));
    const chosen = (servers: PlaceableServer[]) =>
      planPlacements(tasks, servers).placed.map(({ serverId }) => serverId);
    const doubtful = (id: string) => server(id, { reach: "doubt" });
    expect(chosen([doubtful("a"), server("b", { reservedUnits: 98 })])).toEqual(["b", "b", "a"]);
    expect(chosen([doubtful("a"), doubtful("b"), doubtful("c")])).toEqual(["a", "b", "c"]);
  });

  it("leaves a server for good, or unless nothing else fits", () => {
    const choose = (forGood: boolean, servers: PlaceableServer[]) =>
      planPlacements([task("c", { leaving: { serverId: "a", forGood } })], servers).placed[0]?.serverId;
    const almostFull = server("b", { reservedUnits: 99 });
    expect(choose(false, [server("a"), almostFull])).toBe("b");
    expect(choose(false, [server("a"), server("b", { reservedUnits: 100 })])).toBe("a");
    expect(choose(true, [server("a"), almostFull])).toBe("b");
    expect(choose(true, [server("a"), server("a2", { cordoned: true })])).toBeUndefined();
    // Another life of the server is the server all the same.
    expect(choose(true, [server("a", { incarnation: 7n })])).toBeUndefined();
  });

  it("prefers and avoids by labels only among servers that are about equally full", () => {
    const preferring = task("c", { preferredLabels: { zone: "a" }, avoidedLabels: { old: "yes" } });
    const choose = (servers: PlaceableServer[]) => planPlacements([preferring], servers).placed[0]?.serverId;
    const inZone = (reservedUnits: number) => server("z", { labels: { zone: "a" }, reservedUnits });
    expect(choose([server("a"), inZone(5)])).toBe("z");
    expect(choose([server("a"), inZone(15)])).toBe("a");
    expect(choose([server("a", { labels: { old: "yes" } }), server("b", { reservedUnits: 5 })])).toBe("b");
    expect(choose([server("a", { labels: { old: "yes" } }), server("b", { reservedUnits: 15 })])).toBe("a");
  });

  it("weighs servers of different size by the share of their capacity", () => {
    const servers = [server("big", { capacity: 300 }), server("small", { capacity: 100 })];
    const tasks = Array.from({ length: 40 }, (_, index) => task(`c${index}`));
    expect([...loads(servers, [planPlacements(tasks, servers)])]).toEqual([
      ["big", 30],
      ["small", 10],
    ]);
  });

  it("says why nothing could be found", () => {
    const servers = [
      server("down", { state: Server_State.DOWN }),
      server("cordoned", { cordoned: true }),
      server("far", { region: "us" }),
      server("plain", { region: "eu" }),
      server("full", { region: "eu", labels: { gpu: "yes" }, reservedUnits: 95 }),
      server("tried", { region: "eu", labels: { gpu: "yes" } }),
      server("failing", { region: "eu", labels: { gpu: "yes" }, penalised: true }),
      server("silent", { reach: "fails" }),
    ];
    const [left] = planPlacements(
      [
        task("c", {
          weight: 10,
          region: "eu",
          requiredLabels: { gpu: "yes" },
          triedServers: new Set(["tried@1"]),
        }),
      ],
      servers,
    ).unplaced;
    expect(left?.reason).toBe(
      "of 8 servers: 1 cordoned, 1 down, 1 resting after a failed start, 1 not in region eu, " +
        "1 without label gpu=yes, 1 does not answer this dispatcher, 1 tried before, 1 without room for 10 units",
    );
    expect(planPlacements([task("c")], []).unplaced[0]?.reason).toBe("no conference server is registered");
  });
});
