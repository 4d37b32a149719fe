import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { timestampMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { type Task, TaskRelease_Cause } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { type Clients, type ControlPlane, openControlPlane } from "../support/control-plane.ts";
import { answerOf } from "../support/failures.ts";
import {
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

type Dispatcher = Awaited<ReturnType<typeof registerDispatcher>>;

async function commit(
  clients: Clients,
  dispatcher: Dispatcher,
  dispatches: readonly ReturnType<typeof dispatchOf>[],
) {
  const { results } = await clients.dispatchers.commitDispatches({
    ...dispatcher,
    dispatches: [...dispatches],
  });
  expect(results.map(({ conferenceId }) => conferenceId)).toEqual(
    dispatches.map(({ conferenceId }) => conferenceId),
  );
  return results.map(({ outcome }) =>
    outcome.case === "dispatch" ? "ok" : (outcome.value?.reason ?? "nothing"),
  );
}

async function release(plane: ControlPlane, dispatcher: Dispatcher, task: Task, cause: TaskRelease_Cause) {
  const { conferenceId, dispatchEpoch } = task;
  const { results } = await plane.dispatchers.releaseTasks({
    ...dispatcher,
    releases: [{ conferenceId, dispatchEpoch, cause, message: "so it was" }],
  });
  return results[0]?.rejection?.reason ?? "ok";
}

const read = async (plane: ControlPlane, conferenceId: string) => {
  const { conference } = await plane.conferences.getConference({ conferenceId });
  if (!conference) throw new Error("no conference in the answer");
  return conference;
};

/** A dispatcher that has taken `count` conferences, and a server to place them on. */
async function claimed(plane: ControlPlane, count: number, capacity = 1_000) {
  const server = await registerServer(plane, "s1", { capacity });
  const dispatcher = await registerDispatcher(plane, "d1", 600_000);
  await scheduleMany(plane, count);
  return { server, dispatcher, tasks: await fetchAll(plane, dispatcher) };
}

const first = (tasks: readonly Task[]): Task => {
  const [task] = tasks;
  if (!task) throw new Error("no task");
  return task;
};

describe("the dispatch table", () => {
  it("holds what was committed, and takes the same again", async () => {
    await using plane = await openControlPlane({ settings: { graceMs: 60_000 } });
    const { server, dispatcher, tasks } = await claimed(plane, 300);
    const dispatches = tasks.map((task) => dispatchOf(task, server));
    expect(new Set(await commit(plane, dispatcher, dispatches))).toEqual(new Set(["ok"]));
    const revision = await plane.revision();
    expect(new Set(await commit(plane, dispatcher, dispatches))).toEqual(new Set(["ok"]));
    expect(await plane.revision()).toBe(revision);

    const task = first(tasks);
    const { dispatch } = await plane.conferences.getDispatch({ conferenceId: task.conferenceId });
    expect(dispatch).toMatchObject({
      conferenceId: task.conferenceId,
      serverId: "s1",
      incarnation: 1n,
      epoch: task.dispatchEpoch,
      address: `ws://s1/${task.conferenceId}`,
      dispatcherId: "d1",
      previousServerId: "",
    });
    const endMs = task.endTime ? timestampMs(task.endTime) : 0;
    expect(dispatch?.validUntil && timestampMs(dispatch.validUntil)).toBe(endMs + 60_000);
    expect(await read(plane, task.conferenceId)).toMatchObject({
      state: Conference_State.ACTIVE,
      attempt: 1,
    });
    const other = { ...dispatchOf(task, server), address: "ws://elsewhere" };
    expect(await commit(plane, dispatcher, [other])).toEqual([ErrorReason.CLAIM_LOST]);
  });

  it("survives the restart of the replica as it was", async () => {
    await using plane = await openControlPlane();
    const { server, dispatcher, tasks } = await claimed(plane, 20);
    await commit(
      plane,
      dispatcher,
      tasks.slice(0, 12).map((task) => dispatchOf(task, server)),
    );
    const table = async () => ({
      dispatches: (await plane.conferences.listDispatches({})).dispatches,
      conferences: (await plane.conferences.listConferences({})).conferences,
      servers: (await plane.servers.listServers({})).servers,
      total: await plane.dispatchers.queryTotal(dispatcher),
    });
    const before = await table();
    expect(before.dispatches).toHaveLength(12);
    expect(before.total.taken).toBe(20);
    await plane.restart();
    expect(await table()).toEqual(before);
    expect(
      await commit(
        plane,
        dispatcher,
        tasks.slice(12).map((task) => dispatchOf(task, server)),
      ),
    ).toEqual(Array(8).fill("ok"));
  });

  it("refuses what no longer stands, item by item (I5)", async () => {
    await using plane = await openControlPlane();
    const { server, dispatcher, tasks } = await claimed(plane, 6);
    const cordoned = await registerServer(plane, "s2");
    await plane.servers.cordonServer({ serverId: "s2" });
    const [good, wrongEpoch, wrongLife, onCordoned, nowhere, cancelled] = tasks.map((task) =>
      dispatchOf(task, server),
    );
    await plane.conferences.cancelConference({ conferenceId: cancelled?.conferenceId ?? "" });
    expect(
      await commit(plane, dispatcher, [
        { ...good },
        { ...wrongEpoch, dispatchEpoch: (wrongEpoch?.dispatchEpoch ?? 0n) + 1n },
        { ...wrongLife, incarnation: 2n },
        { ...onCordoned, serverId: cordoned.serverId },
        { ...nowhere, serverId: "s9" },
        { ...cancelled },
        { ...good, conferenceId: "unknown" },
      ]),
    ).toEqual([
      "ok",
      ErrorReason.CLAIM_LOST,
      ErrorReason.INCARNATION_EXPIRED,
      ErrorReason.SERVER_UNAVAILABLE,
      ErrorReason.SERVER_NOT_FOUND,
      ErrorReason.CLAIM_LOST,
      ErrorReason.CONFERENCE_NOT_FOUND,
    ]);
    const stale = { ...dispatcher, epoch: dispatcher.epoch - 1n };
    expect(
      await answerOf(plane.dispatchers.commitDispatches({ ...stale, dispatches: [{ ...wrongEpoch }] })),
    ).toEqual({ code: Code.FailedPrecondition, reason: ErrorReason.DISPATCHER_REPLACED });
  });

  it("gives nothing to a dispatcher whose claims another has taken over", async () => {
    await using plane = await openControlPlane();
    const { server, dispatcher, tasks } = await claimed(plane, 1);
    const task = first(tasks);
    await plane.dispatchers.deregisterDispatcher(dispatcher);
    const next = await registerDispatcher(plane, "d2", 600_000);
    const again = await fetchAll(plane, next);
    expect(again).toHaveLength(1);
    const back = await registerDispatcher(plane, "d1", 600_000);
    expect(await commit(plane, back, [dispatchOf(task, server)])).toEqual([ErrorReason.CLAIM_LOST]);
    expect(await commit(plane, next, [dispatchOf(first(again), server)])).toEqual(["ok"]);
  });

  it("never puts more on a server than it holds, whoever commits at once (I6)", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 120 }),
        fc.integer({ min: 1, max: 4 }),
        async (weights, capacity, count) => {
          await using plane = await openControlPlane();
          const replicas = [plane, await plane.addReplica()];
          const large = await registerServer(plane, "s1", { capacity });
          const small = await registerServer(plane, "s2", { capacity: 5 });
          const dispatchers: Dispatcher[] = [];
          for (let rank = 0; rank < count; rank++)
            dispatchers.push(await registerDispatcher(plane, `d${rank}`, 600_000));
          await plane.conferences.batchCreateConferences({
            requests: weights.map((weight, index) => ({
              conference: conference(plane, `c${index}`, { weight }),
            })),
          });
          const outcomes = await Promise.all(
            dispatchers.map(async (dispatcher, rank) => {
              const clients = replicas[rank % 2] ?? plane;
              const tasks = await fetchAll(clients, dispatcher);
              const halves = [
                tasks.filter((_, index) => index % 2),
                tasks.filter((_, index) => !(index % 2)),
              ];
              const results = await Promise.all(
                halves.map((half) => {
                  const placed = half.map((task, index) => dispatchOf(task, index % 5 === 0 ? small : large));
                  return placed.length > 0 ? commit(clients, dispatcher, placed) : [];
                }),
              );
              return results.flat();
            }),
          );
          const committed = outcomes.flat().filter((outcome) => outcome === "ok").length;
          for (const outcome of outcomes.flat())
            expect(["ok", ErrorReason.CAPACITY_EXCEEDED, ErrorReason.CONTENTION]).toContain(outcome);
          const { dispatches } = await plane.conferences.listDispatches({ pageSize: 1000 });
          expect(dispatches).toHaveLength(committed);
          for (const { serverId, capacity: units, reservedUnits } of (await plane.servers.listServers({}))
            .servers) {
            const weighed = dispatches
              .filter((dispatch) => dispatch.serverId === serverId)
              .reduce((sum, { conferenceId }) => sum + (weights[Number(conferenceId.slice(1))] ?? 0), 0);
            expect(reservedUnits).toBe(weighed);
            expect(weighed).toBeLessThanOrEqual(units);
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  it("voids what ran on a server at once when it begins a new life, and makes it due again (I8)", async () => {
    await using plane = await openControlPlane();
    const { server, dispatcher, tasks } = await claimed(plane, 6);
    const other = await registerServer(plane, "s2");
    await commit(
      plane,
      dispatcher,
      tasks.map((task, index) => dispatchOf(task, index < 4 ? server : other)),
    );
    const untouched = await plane.conferences.listDispatches({ serverId: "s2" });
    const reborn = await registerServer(plane, "s1", { instanceId: "second" });
    expect(reborn).toMatchObject({ incarnation: 2n, reservedUnits: 0, conferenceCount: 0 });
    expect(await answerOf(plane.conferences.getDispatch({ conferenceId: "c-0000" }))).toEqual({
      code: Code.NotFound,
      reason: ErrorReason.DISPATCH_NOT_FOUND,
    });
    expect((await plane.conferences.listDispatches({ serverId: "s1" })).dispatches).toEqual([]);
    expect((await plane.conferences.listDispatches({ serverId: "s2" })).dispatches).toEqual(
      untouched.dispatches,
    );
    expect((await plane.dispatchers.queryTotal(dispatcher)).total).toBe(4);
    const again = await fetchAll(plane, dispatcher);
    expect(again.map(({ conferenceId }) => conferenceId)).toEqual(["c-0000", "c-0001", "c-0002", "c-0003"]);
    expect(await commit(plane, dispatcher, [dispatchOf(first(again), server)])).toEqual([
      ErrorReason.INCARNATION_EXPIRED,
    ]);
    expect(await commit(plane, dispatcher, [dispatchOf(first(again), other)])).toEqual(["ok"]);
    const { dispatch } = await plane.conferences.getDispatch({ conferenceId: "c-0000" });
    expect(dispatch?.previousServerId).toBe("s1");
    expect(dispatch?.epoch).toBeGreaterThan(first(tasks).dispatchEpoch);
  });

  it("serves a commit over a socket", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    const { server, dispatcher, tasks } = await claimed(plane, 3);
    const dispatches = tasks.map((task) => dispatchOf(task, server));
    expect(await commit(client, dispatcher, dispatches)).toEqual(["ok", "ok", "ok"]);
    expect((await client.conferences.listDispatches({})).dispatches).toHaveLength(3);
  });
});

describe("a release", () => {
  it("for want of room waits a second and counts for nothing", async () => {
    await using plane = await openControlPlane();
    const { dispatcher, tasks } = await claimed(plane, 1);
    expect(await release(plane, dispatcher, first(tasks), TaskRelease_Cause.NO_CAPACITY)).toBe("ok");
    expect(await read(plane, "c-0000")).toMatchObject({
      state: Conference_State.SCHEDULED,
      failedAttempts: 0,
      failure: { message: "so it was" },
    });
    await plane.clock.advance(999);
    expect(await fetchAll(plane, dispatcher)).toEqual([]);
    await plane.clock.advance(1);
    expect(await fetchAll(plane, dispatcher)).toMatchObject([{ conferenceId: "c-0000", attempt: 2 }]);
  });

  it("of a dispatcher that stops makes the conference due at once", async () => {
    await using plane = await openControlPlane();
    const { dispatcher, tasks } = await claimed(plane, 1);
    expect(await release(plane, dispatcher, first(tasks), TaskRelease_Cause.SHUTTING_DOWN)).toBe("ok");
    expect((await read(plane, "c-0000")).failure).toBeUndefined();
    expect(await fetchAll(plane, dispatcher)).toHaveLength(1);
  });

  it("after too many failed starts makes the conference FAILED, until it is requeued", async () => {
    await using plane = await openControlPlane({ settings: { maxFailedAttempts: 3 } });
    const { dispatcher, tasks } = await claimed(plane, 1);
    let task = first(tasks);
    for (const delayMs of [1_000, 2_000]) {
      expect(await release(plane, dispatcher, task, TaskRelease_Cause.START_FAILED)).toBe("ok");
      await plane.clock.advance(delayMs - 1);
      expect(await fetchAll(plane, dispatcher)).toEqual([]);
      await plane.clock.advance(1);
      task = first(await fetchAll(plane, dispatcher));
    }
    expect(await release(plane, dispatcher, task, TaskRelease_Cause.START_FAILED)).toBe("ok");
    expect(await read(plane, "c-0000")).toMatchObject({ state: Conference_State.FAILED, failedAttempts: 3 });
    await plane.clock.advance(60_000);
    expect(await fetchAll(plane, dispatcher)).toEqual([]);
    const { conference: requeued } = await plane.conferences.requeueConference({ conferenceId: "c-0000" });
    expect(requeued).toMatchObject({ state: Conference_State.SCHEDULED, failedAttempts: 0 });
    expect(await fetchAll(plane, dispatcher)).toHaveLength(1);
    expect(await answerOf(plane.conferences.requeueConference({ conferenceId: "c-0000" }))).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.STATE_CONFLICT,
    });
  });

  it("is refused for what is not held", async () => {
    await using plane = await openControlPlane();
    const { server, dispatcher, tasks } = await claimed(plane, 2);
    const [placed, held] = [first(tasks), first(tasks.slice(1))];
    await commit(plane, dispatcher, [dispatchOf(placed, server)]);
    const cause = TaskRelease_Cause.NO_CAPACITY;
    expect(await release(plane, dispatcher, placed, cause)).toBe(ErrorReason.CLAIM_LOST);
    const unknown = { ...held, conferenceId: "unknown" };
    expect(await release(plane, dispatcher, unknown, cause)).toBe(ErrorReason.CONFERENCE_NOT_FOUND);
    const stale = { ...held, dispatchEpoch: held.dispatchEpoch - 1n };
    expect(await release(plane, dispatcher, stale, cause)).toBe(ErrorReason.CLAIM_LOST);
    expect(await release(plane, dispatcher, held, cause)).toBe("ok");
  });
});
