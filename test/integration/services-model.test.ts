import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import type { Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { type Clients, type ControlPlane, openControlPlane } from "../support/control-plane.ts";
import { answerOf } from "../support/failures.ts";
import {
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
} from "../support/scheduling.ts";

/** What a call may answer when others were faster; anything else is a fault. */
const ALLOWED = [0, Code.Aborted, Code.FailedPrecondition, Code.NotFound];

const DISPATCHERS = 4;
const SERVERS = 2;
const CAPACITY = 12;

/** What the callers know: their epochs and the tasks they were given. */
class World {
  readonly epochs = new Map<number, bigint>();
  readonly tasks = new Map<number, Task[]>();
  /** The highest dispatch epoch anyone has seen of each conference. */
  readonly highest = new Map<string, bigint>();
  created = 0;
  readonly plane: ControlPlane;
  readonly replicas: readonly Clients[];

  constructor(plane: ControlPlane, second: Clients) {
    this.plane = plane;
    this.replicas = [plane, second];
  }

  through(index: number): Clients {
    return this.replicas[index % this.replicas.length] ?? this.plane;
  }

  caller(dispatcher: number) {
    return { dispatcherId: `d${dispatcher}`, epoch: this.epochs.get(dispatcher) ?? 1n };
  }
}

type Step = (world: World) => Promise<unknown>;

const dispatcher = fc.nat({ max: DISPATCHERS - 1 });
const number = fc.nat({ max: 99 });

const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(fc.integer({ min: 1, max: 6 }), number).map(
      ([count, salt]): Step =>
        (world) => {
          const requests = Array.from({ length: count }, () => ({
            conference: conference(world.plane, `c${world.created++}`, { weight: 1 + (salt % 3) }),
          }));
          return world.through(salt).conferences.batchCreateConferences({ requests });
        },
    ),
  },
  {
    weight: 2,
    arbitrary: dispatcher.map(
      (id): Step =>
        async (world) => {
          world.epochs.set(id, (await registerDispatcher(world.through(id), `d${id}`, 600_000)).epoch);
        },
    ),
  },
  {
    weight: 1,
    arbitrary: dispatcher.map(
      (id): Step =>
        (world) => {
          return world.plane.dispatchers.deregisterDispatcher(world.caller(id));
        },
    ),
  },
  {
    weight: 6,
    arbitrary: fc.tuple(dispatcher, fc.constantFrom(0, 0, 1, 3), number).map(
      ([id, maxTasks, salt]): Step =>
        async (world) => {
          const tasks = await fetchAll(world.through(salt), { ...world.caller(id), maxTasks });
          world.tasks.set(id, tasks);
          for (const { conferenceId, dispatchEpoch } of tasks) {
            expect(dispatchEpoch, "dispatch epochs rise (I2)").toBeGreaterThanOrEqual(
              world.highest.get(conferenceId) ?? 0n,
            );
            world.highest.set(conferenceId, dispatchEpoch);
          }
        },
    ),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(dispatcher, number).map(
      ([id, salt]): Step =>
        async (world) => {
          const tasks = world.tasks.get(id)?.filter((_, index) => (index + salt) % 4 !== 0) ?? [];
          const { servers } = await world.plane.servers.listServers({});
          const server = servers[salt % SERVERS];
          if (tasks.length === 0 || !server) return;
          const dispatches = tasks.map((task) => dispatchOf(task, server));
          await world.through(salt).dispatchers.commitDispatches({ ...world.caller(id), dispatches });
        },
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(dispatcher, fc.integer({ min: 1, max: 3 }), number).map(
      ([id, cause, salt]): Step =>
        async (world) => {
          const tasks = world.tasks.get(id)?.slice(0, 1 + (salt % 3)) ?? [];
          if (tasks.length === 0) return;
          const releases = tasks.map(({ conferenceId, dispatchEpoch }) => ({
            conferenceId,
            dispatchEpoch,
            cause,
          }));
          await world.through(salt).dispatchers.releaseTasks({ ...world.caller(id), releases });
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        number,
        fc.constantFrom("cancelConference", "endConference") as fc.Arbitrary<
          "cancelConference" | "endConference"
        >,
      )
      .map(
        ([salt, call]): Step =>
          (world) =>
            world.through(salt).conferences[call]({ conferenceId: `c${salt % Math.max(1, world.created)}` }),
      ),
  },
  {
    weight: 1,
    arbitrary: number.map(
      (salt): Step =>
        (world) =>
          registerServer(world.through(salt), `s${salt % SERVERS}`, {
            capacity: CAPACITY,
            instanceId: `life-${salt}`,
          }),
    ),
  },
  {
    weight: 2,
    // Four at once stay below what an operation waits for the view, since the store works in real time.
    arbitrary: fc.integer({ min: 100, max: 1_000 }).map(
      (ms): Step =>
        (world) =>
          world.plane.clock.advance(ms),
    ),
  },
);

/** What must hold whenever nothing is being written. */
async function check({ plane }: World) {
  const { dispatchers } = await plane.dispatchers.listDispatchers({});
  const totals = await Promise.all(
    dispatchers.map(({ dispatcherId }) => plane.dispatchers.queryTotal({ dispatcherId })),
  );
  const shares = totals.map(({ share }) => share);
  for (const [rank, total] of totals.entries()) {
    expect(total).toMatchObject({ rank, dispatcherCount: dispatchers.length, revision: totals[0]?.revision });
    expect(total.total).toBe(totals[0]?.total);
  }
  if (shares.length > 0) {
    expect(
      shares.reduce((a, b) => a + b, 0),
      "shares add up (I4)",
    ).toBe(totals[0]?.total);
    expect(
      Math.max(...shares) - Math.min(...shares),
      "shares differ by at most one (I4)",
    ).toBeLessThanOrEqual(1);
  }
  const { conferences } = await plane.conferences.listConferences({ pageSize: 1000 });
  const { servers } = await plane.servers.listServers({});
  for (const { state, claim, dispatch } of conferences) {
    if (state === Conference_State.CLAIMED) {
      const holder = dispatchers.find(({ dispatcherId }) => dispatcherId === claim?.dispatcherId);
      expect(holder?.epoch, "a valid claim is of a live epoch (I1)").toBe(claim?.dispatcherEpoch);
    }
    if (state === Conference_State.ACTIVE) {
      const host = servers.find(({ serverId }) => serverId === dispatch?.serverId);
      expect(host?.incarnation, "a valid dispatch is of a live incarnation (I1)").toBe(dispatch?.incarnation);
    }
  }
  for (const { serverId, capacity, reservedUnits } of servers) {
    const units = conferences
      .filter(({ state, dispatch }) => state === Conference_State.ACTIVE && dispatch?.serverId === serverId)
      .reduce((sum, { weight }) => sum + weight, 0);
    expect(reservedUnits).toBe(units);
    expect(reservedUnits, "no server is overfull (I6)").toBeLessThanOrEqual(capacity);
  }
}

describe("whatever dispatchers and callers do, at once and in any order", () => {
  it("shares, claims, dispatches and capacities hold", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(steps, { minLength: 1, maxLength: 4 }), { minLength: 3, maxLength: 30 }),
        async (rounds) => {
          await using plane = await openControlPlane({ settings: { maxFailedAttempts: 2 } });
          const world = new World(plane, await plane.addReplica());
          for (let server = 0; server < SERVERS; server++)
            await registerServer(plane, `s${server}`, { capacity: CAPACITY });
          for (const together of rounds) {
            const answers = await Promise.all(together.map((step) => answerOf(step(world))));
            for (const { code } of answers) expect(ALLOWED, `code ${code}`).toContain(code);
            // Both replicas have everything before it is looked at.
            const revision = await plane.revision();
            await Promise.all(
              world.replicas.map(async (clients) => {
                for (;;) {
                  const list = await clients.conferences.listConferences({ pageSize: 1 });
                  if (list.revision >= revision) return;
                  await new Promise((resolve) => setImmediate(resolve));
                }
              }),
            );
            await check(world);
          }
          expect(plane.complaints).toEqual([]);
        },
      ),
      { numRuns: 40, interruptAfterTimeLimit: 45_000 },
    );
  });
});
