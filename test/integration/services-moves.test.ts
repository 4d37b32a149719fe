import { clone, create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import { ServerRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason as MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { TaskRelease_Cause } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { type Server, Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { createKeys } from "../../server/store/keys.ts";
import { type ControlPlane, openControlPlane } from "../support/control-plane.ts";
import {
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

const keys = createKeys();

type Caller = Awaited<ReturnType<typeof registerDispatcher>>;

/** Takes everything there is for a dispatcher and places it on a server; gives the tasks in the order they came. */
async function placeAll(plane: ControlPlane, dispatcher: Caller, server: Server) {
  const tasks = await fetchAll(plane, dispatcher);
  if (tasks.length > 0) {
    const { results } = await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: tasks.map((task) => dispatchOf(task, server)),
    });
    expect(results.map(({ outcome }) => outcome.case)).toEqual(tasks.map(() => "dispatch"));
  }
  return tasks;
}

/** Writes the verdict as a replica does. */
async function declare(plane: ControlPlane, serverId: string, state: Server_State) {
  const key = keys.server(serverId);
  const { server } = await plane.servers.getServer({ serverId });
  if (!server) throw new Error(`there is no ${serverId}`);
  const changed = Object.assign(clone(ServerSchema, server), { state, reservedUnits: 0, conferenceCount: 0 });
  const value = toBinary(ServerRecordSchema, create(ServerRecordSchema, { server: changed, attemptId: "x" }));
  await plane.store.txn({ compare: [], then: [{ put: { key, value } }], else: [] });
}

async function rows(plane: ControlPlane) {
  const { dispatches } = await plane.conferences.listDispatches({ pageSize: 1000 });
  return new Map(dispatches.map((dispatch) => [dispatch.conferenceId, dispatch]));
}

/** What the table's watch tells from a revision until its newest. */
async function eventsSince(plane: ControlPlane, revision: bigint) {
  const events = [];
  const until = (await plane.conferences.listDispatches({})).revision;
  for await (const message of plane.conferences.watchDispatches({ revision })) {
    events.push(...message.events);
    if (message.revision >= until) break;
  }
  return events;
}

const MINUTE_MS = 60_000;

describe("a server that is lost", () => {
  it("has its conferences handed out first: running before soon-to-start, largest first", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const dead = await registerServer(plane, "s1");
    const alive = await registerServer(plane, "s2");
    const create = (id: string, startInMs: number, weight: number) =>
      plane.conferences.createConference({ conference: conference(plane, id, { startInMs, weight }) });
    await create("soon-small", 5 * MINUTE_MS, 2);
    await create("soon-large", 6 * MINUTE_MS, 9);
    await create("running-small", 0, 1);
    await create("running-large", 0, 8);
    await placeAll(plane, dispatcher, dead);
    await create("new", -1_000, 5);
    await declare(plane, "s1", Server_State.DOWN);
    const tasks = await placeAll(plane, dispatcher, alive);
    expect(tasks.map(({ conferenceId }) => conferenceId)).toEqual([
      "running-large",
      "running-small",
      "soon-large",
      "soon-small",
      "new",
    ]);
    expect(tasks.map(({ moveReason, previousServerId }) => [moveReason, previousServerId])).toEqual([
      ...Array.from({ length: 4 }, () => [MoveReason.SERVER_DOWN, "s1"]),
      [MoveReason.UNSPECIFIED, ""],
    ]);
  });

  it("I8: moves its own conferences and nothing else, and the watch tells from where, to where and why", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const [s1, s2] = [await registerServer(plane, "s1"), await registerServer(plane, "s2")];
    await scheduleMany(plane, 5, "a");
    await placeAll(plane, dispatcher, s1);
    await scheduleMany(plane, 5, "b");
    await placeAll(plane, dispatcher, s2);
    const before = await rows(plane);
    const since = (await plane.conferences.listDispatches({})).revision;
    await declare(plane, "s1", Server_State.DOWN);
    await placeAll(plane, dispatcher, s2);
    const after = await rows(plane);
    for (const [id, row] of after) {
      if (id.startsWith("b")) expect(row).toEqual(before.get(id));
      else {
        expect(row).toMatchObject({
          serverId: "s2",
          previousServerId: "s1",
          moveReason: MoveReason.SERVER_DOWN,
        });
        expect(row.epoch, "epochs rise (I2)").toBeGreaterThan(before.get(id)?.epoch ?? 0n);
      }
    }
    expect(after.size).toBe(10);
    const events = await eventsSince(plane, since);
    const told = (type: EventType, cause: DispatchEvent_Cause) =>
      events
        .filter((event) => event.type === type && event.cause === cause)
        .map(({ dispatch }) => [dispatch?.conferenceId, dispatch?.previousServerId, dispatch?.serverId]);
    const lost = ["a-0000", "a-0001", "a-0002", "a-0003", "a-0004"];
    expect(told(EventType.DELETE, DispatchEvent_Cause.SERVER_LOST)).toEqual(lost.map((id) => [id, "", "s1"]));
    expect(told(EventType.PUT, DispatchEvent_Cause.MOVED)).toEqual(lost.map((id) => [id, "s1", "s2"]));
    expect(events).toHaveLength(10);
  });

  it("that comes back in the same life keeps what has not been moved", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const [s1, s2] = [await registerServer(plane, "s1"), await registerServer(plane, "s2")];
    await scheduleMany(plane, 4);
    await placeAll(plane, dispatcher, s1);
    await declare(plane, "s1", Server_State.DOWN);
    const [first] = await fetchAll(plane, { ...dispatcher, maxTasks: 1 });
    if (!first) throw new Error("nothing was handed out");
    const since = (await plane.conferences.listDispatches({})).revision;
    await declare(plane, "s1", Server_State.UP);
    await plane.dispatchers.commitDispatches({ ...dispatcher, dispatches: [dispatchOf(first, s2)] });
    expect([...(await rows(plane)).values()].map(({ serverId }) => serverId).sort()).toEqual([
      ...["s1", "s1", "s1", "s2"],
    ]);
    const events = await eventsSince(plane, since);
    expect(events.map(({ cause }) => cause)).toEqual([
      ...Array.from({ length: 3 }, () => DispatchEvent_Cause.RETURNED),
      DispatchEvent_Cause.MOVED,
    ]);
    expect(await fetchAll(plane, dispatcher)).toEqual([]);
  });

  it("has no more of its conferences on their way at a time than the budget", async () => {
    await using plane = await openControlPlane({ settings: { moveBudget: 7 } });
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const [s1, s2] = [await registerServer(plane, "s1"), await registerServer(plane, "s2")];
    await scheduleMany(plane, 20);
    await placeAll(plane, dispatcher, s1);
    await declare(plane, "s1", Server_State.DOWN);
    const sizes = [];
    for (let moved = 0; moved < 20; ) {
      const tasks = await placeAll(plane, dispatcher, s2);
      sizes.push(tasks.length);
      moved += tasks.length;
    }
    expect(sizes).toEqual([7, 7, 6]);
  });
});

describe("what finds no room", () => {
  it("waits in view, is not claimed again in vain, and is due as soon as a server has room", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const server = await registerServer(plane, "s1", { capacity: 2 });
    await scheduleMany(plane, 5);
    const tasks = await fetchAll(plane, dispatcher);
    const [fitting, unplaced] = [tasks.slice(0, 2), tasks.slice(2)];
    await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: fitting.map((task) => dispatchOf(task, server)),
    });
    const releases = unplaced.map(({ conferenceId, dispatchEpoch }) => ({
      ...{ conferenceId, dispatchEpoch, cause: TaskRelease_Cause.NO_CAPACITY },
      message: "of 1 servers: 1 without room for 1 units",
    }));
    // Given back often, they wait ever longer.
    await plane.dispatchers.releaseTasks({ ...dispatcher, releases });
    const states = [Conference_State.SCHEDULED];
    const waiting = (await plane.conferences.listConferences({ states })).conferences;
    expect(waiting.map(({ failure }) => failure?.message)).toEqual(releases.map(({ message }) => message));
    await plane.clock.advance(999);
    await plane.conferences.endConference({ conferenceId: fitting[0]?.conferenceId ?? "" });
    expect(await fetchAll(plane, dispatcher)).toEqual([]);
    await plane.clock.advance(1);
    expect(await fetchAll(plane, dispatcher), "as many as there is room for").toHaveLength(3);
  });

  it("is handed out as far as there is room, long before its next turn", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const server = await registerServer(plane, "s1", { capacity: 2 });
    await scheduleMany(plane, 5);
    const placed = (await fetchAll(plane, dispatcher)).slice(0, 2);
    await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: placed.map((task) => dispatchOf(task, server)),
    });
    // Each time it is given back its next turn is later: 1, 1, 2, 4, 8 s.
    for (let turn = 0; turn < 5; turn++) {
      await plane.clock.advance(15_000);
      const tasks = await fetchAll(plane, dispatcher);
      expect(tasks).toHaveLength(3);
      await plane.dispatchers.releaseTasks({
        ...dispatcher,
        releases: tasks.map(({ conferenceId, dispatchEpoch }) => ({
          ...{ conferenceId, dispatchEpoch, cause: TaskRelease_Cause.NO_CAPACITY, message: "no room" },
        })),
      });
    }
    await plane.clock.advance(2_000);
    expect(await fetchAll(plane, dispatcher), "no room, and not its turn").toEqual([]);
    await plane.conferences.endConference({ conferenceId: placed[0]?.conferenceId ?? "" });
    expect(await fetchAll(plane, dispatcher), "room for one").toHaveLength(1);
  });
});

describe("a server that is drained", () => {
  it("keeps each conference's row valid until the next one takes its place", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const [s1, s2] = [await registerServer(plane, "s1"), await registerServer(plane, "s2")];
    await scheduleMany(plane, 30);
    await placeAll(plane, dispatcher, s1);
    const since = (await plane.conferences.listDispatches({})).revision;
    const { server: draining } = await plane.servers.drainServer({ serverId: "s1" });
    expect(draining).toMatchObject({ cordoned: true, drain: { conferenceCount: 30, done: false } });
    const tasks = await fetchAll(plane, dispatcher);
    expect(tasks).toHaveLength(30);
    expect((await rows(plane)).size, "while they are on their way").toBe(30);
    const states = [Conference_State.ACTIVE];
    expect((await plane.conferences.listConferences({ states })).conferences).toHaveLength(30);
    await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: tasks.map((task) => dispatchOf(task, s2)),
    });
    const events = await eventsSince(plane, since);
    expect(events.map(({ type, cause }) => [type, cause])).toEqual(
      tasks.map(() => [EventType.PUT, DispatchEvent_Cause.MOVED]),
    );
    expect(events.every(({ dispatch }) => dispatch?.moveReason === MoveReason.DRAIN)).toBe(true);
    const { server } = await plane.servers.getServer({ serverId: "s1" });
    expect(server).toMatchObject({ conferenceCount: 0, drain: { conferenceCount: 30, done: true } });
    await plane.servers.removeServer({ serverId: "s1" });
  });

  it("lets end by itself what ends before the deadline, and moves the rest", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const s1 = await registerServer(plane, "s1");
    const create = (id: string, lastsMs: number) =>
      plane.conferences.createConference({ conference: conference(plane, id, { startInMs: 0, lastsMs }) });
    await create("short", 2 * MINUTE_MS);
    await create("overrun", 4 * MINUTE_MS);
    await create("long", 60 * MINUTE_MS);
    await placeAll(plane, dispatcher, s1);
    await registerServer(plane, "s2");
    await plane.servers.drainServer({ serverId: "s1", deadline: { seconds: 300n } });
    expect((await fetchAll(plane, dispatcher)).map(({ conferenceId }) => conferenceId)).toEqual(["long"]);
    await plane.conferences.endConference({ conferenceId: "short" });
    await plane.clock.advance(5 * MINUTE_MS);
    expect((await fetchAll(plane, dispatcher)).map(({ conferenceId }) => conferenceId).sort()).toEqual([
      "long",
      "overrun",
    ]);
  });

  it("stops moving when it is uncordoned; what was given back stays where it is", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const s1 = await registerServer(plane, "s1");
    await scheduleMany(plane, 3);
    await placeAll(plane, dispatcher, s1);
    const before = await rows(plane);
    await plane.servers.drainServer({ serverId: "s1" });
    const tasks = await fetchAll(plane, dispatcher);
    const { server } = await plane.servers.uncordonServer({ serverId: "s1" });
    expect(server?.drain).toBeUndefined();
    const { results } = await plane.dispatchers.releaseTasks({
      ...dispatcher,
      releases: tasks.map(({ conferenceId, dispatchEpoch }) => ({
        ...{ conferenceId, dispatchEpoch, cause: TaskRelease_Cause.NO_CAPACITY, message: "no room" },
      })),
    });
    expect(results.every(({ rejection }) => rejection === undefined)).toBe(true);
    expect(await rows(plane)).toEqual(before);
    await plane.clock.advance(MINUTE_MS);
    expect(await fetchAll(plane, dispatcher)).toEqual([]);
  });

  it("I5: a move of a dispatcher that is gone changes nothing, and another takes it", async () => {
    await using plane = await openControlPlane();
    const first = await registerDispatcher(plane, "d1", 600_000);
    const [s1, s2] = [await registerServer(plane, "s1"), await registerServer(plane, "s2")];
    await scheduleMany(plane, 3);
    await placeAll(plane, first, s1);
    await plane.servers.drainServer({ serverId: "s1" });
    const stale = await fetchAll(plane, first);
    await plane.dispatchers.deregisterDispatcher(first);
    const second = await registerDispatcher(plane, "d2", 600_000);
    const { results } = await plane.dispatchers
      .commitDispatches({ ...first, dispatches: stale.map((task) => dispatchOf(task, s2)) })
      .catch(() => ({ results: [] }));
    expect(results).toEqual([]);
    const tasks = await placeAll(plane, second, s2);
    expect(tasks).toHaveLength(3);
    for (const row of (await rows(plane)).values()) {
      expect(row).toMatchObject({ dispatcherId: "d2", serverId: "s2", previousServerId: "s1" });
    }
  });

  it("loses nobody when it dies in the middle: what is on its way arrives, the rest follows first", async () => {
    await using plane = await openControlPlane({ settings: { moveBudget: 8 } });
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const [s1, s2] = [await registerServer(plane, "s1"), await registerServer(plane, "s2")];
    await scheduleMany(plane, 10);
    await placeAll(plane, dispatcher, s1);
    await plane.servers.drainServer({ serverId: "s1" });
    const moving = await fetchAll(plane, dispatcher);
    expect(moving, "drains take half of the budget").toHaveLength(4);
    await declare(plane, "s1", Server_State.DOWN);
    await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: moving.map((task) => dispatchOf(task, s2)),
    });
    const rest = await placeAll(plane, dispatcher, s2);
    expect(rest.map(({ moveReason }) => moveReason)).toEqual(rest.map(() => MoveReason.SERVER_DOWN));
    expect(rest).toHaveLength(6);
    const arrived = await rows(plane);
    expect(arrived.size).toBe(10);
    expect([...arrived.values()].map(({ moveReason }) => moveReason)).toEqual(
      Array.from({ length: 10 }, () => MoveReason.SERVER_DOWN),
    );
  });

  it("shares the work among dispatchers without touching their shares", async () => {
    await using plane = await openControlPlane();
    const s1 = await registerServer(plane, "s1");
    await registerServer(plane, "s2");
    const alone = await registerDispatcher(plane, "d1", 600_000);
    await scheduleMany(plane, 40);
    await placeAll(plane, alone, s1);
    const callers = [alone];
    for (const id of ["d2", "d3", "d4"]) callers.push(await registerDispatcher(plane, id, 600_000));
    await plane.servers.drainServer({ serverId: "s1" });
    const { total } = await plane.dispatchers.queryTotal({ dispatcherId: "d1" });
    expect(total).toBe(0);
    const taken = await Promise.all(callers.map((caller) => fetchAll(plane, caller)));
    expect(new Set(taken.flat().map(({ conferenceId }) => conferenceId)).size).toBe(40);
    expect(Math.min(...taken.map(({ length }) => length))).toBeGreaterThan(0);
  });
});

describe("the validity of a dispatch", () => {
  it("follows the schedule with its grace, is extended with it, and ends the conference when it passes", async () => {
    await using plane = await openControlPlane({ settings: { graceMs: MINUTE_MS } });
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const s1 = await registerServer(plane, "s1");
    await plane.conferences.createConference({
      conference: conference(plane, "c1", { startInMs: 0, lastsMs: 10 * MINUTE_MS }),
    });
    await placeAll(plane, dispatcher, s1);
    const endMs = plane.clock.wallMs() + 10 * MINUTE_MS;
    const validUntilMs = async () => {
      const { validUntil } = (await rows(plane)).get("c1") ?? {};
      return validUntil && timestampMs(validUntil);
    };
    expect(await validUntilMs()).toBe(endMs + MINUTE_MS);
    const since = (await plane.conferences.listDispatches({})).revision;
    await plane.conferences.updateConference({
      conference: { conferenceId: "c1", endTime: timestampFromMs(endMs + 20 * MINUTE_MS) },
      updateMask: { paths: ["end_time"] },
    });
    expect(await validUntilMs()).toBe(endMs + 21 * MINUTE_MS);
    const events = await eventsSince(plane, since);
    expect(events.map(({ cause }) => cause)).toEqual([DispatchEvent_Cause.UPDATED]);
    await plane.clock.advance(30 * MINUTE_MS + 59_000);
    expect(await validUntilMs()).toBeDefined();
    await plane.clock.advance(1_000);
    expect(await validUntilMs()).toBeUndefined();
    await expect(
      plane.conferences.getDispatch({ conferenceId: "c1" }),
      "whether or not the sweep has been there",
    ).rejects.toMatchObject({ message: expect.stringContaining("c1") });
  });
});
