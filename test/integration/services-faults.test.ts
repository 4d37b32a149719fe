import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { STALE_HEADER } from "../../common/rpc/revision-header.ts";
import { TaskRelease_Cause } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { StoreError } from "../../server/store/store.ts";
import { passUntil } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { answerOf } from "../support/failures.ts";
import { openFaulty } from "../support/faulty-control-plane.ts";
import {
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

const unavailable = { code: Code.Unavailable, reason: ErrorReason.STORE_UNAVAILABLE };

describe("a control plane whose store is not well", () => {
  it("serves reads, refuses writes, and is well again by itself", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    await scheduleMany(plane, 3);
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    faulty.lose();
    await eventually(() => plane.replica.fresh).toBe(false);
    let stale: string | null = null;
    const onTrailer = (trailer: Headers) => {
      stale = trailer.get(STALE_HEADER);
    };
    expect((await plane.conferences.listConferences({}, { onTrailer })).conferences).toHaveLength(3);
    expect(stale).toBe("true");
    expect((await plane.dispatchers.queryTotal(dispatcher)).total).toBe(3);
    for (const call of [
      plane.conferences.createConference({ conference: conference(plane, "new") }),
      plane.conferences.cancelConference({ conferenceId: "c-0000" }),
      plane.dispatchers.heartbeat(dispatcher),
      plane.dispatchers.registerDispatcher({ dispatcherId: "d2" }),
      plane.dispatchers.deregisterDispatcher(dispatcher),
      fetchAll(plane, dispatcher),
      plane.servers.cordonServer({ serverId: "s1" }),
      plane.servers.removeServer({ serverId: "s1" }),
    ]) {
      expect(await answerOf(call)).toEqual(unavailable);
    }
    faulty.restore();
    await passUntil(plane.clock, plane.replica.ready(new AbortController().signal), 500);
    expect(await fetchAll(plane, dispatcher)).toHaveLength(3);
    await plane.conferences.listConferences({}, { onTrailer });
    expect(stale).toBeNull();
  });

  it("says nothing on a watch while it cannot know that nothing has changed", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const over = new AbortController();
    let messages = 0;
    const watching = (async () => {
      for await (const _ of plane.conferences.watchDispatches({}, { signal: over.signal })) messages += 1;
    })().catch(() => {});
    await eventually(() => messages).toBe(1);
    await plane.clock.advance(10_000);
    await eventually(() => messages).toBe(2);
    faulty.lose();
    await eventually(() => plane.replica.fresh).toBe(false);
    for (let turn = 0; turn < 4; turn++) {
      await plane.clock.advance(10_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(messages).toBe(2);
    faulty.restore();
    await passUntil(plane.clock, eventually(() => messages).toBe(3), 1_000);
    over.abort();
    await watching;
  });

  it("I5: tells nobody that an epoch is over because a member does not know its lease yet", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    await scheduleMany(plane, 3);
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    faulty.beforeKeepalive = () => {
      throw new StoreError("lease_not_found", "requested lease not found");
    };
    expect(await answerOf(plane.dispatchers.heartbeat(dispatcher))).toEqual(unavailable);
    expect(await fetchAll(plane, dispatcher)).toHaveLength(3);
    faulty.beforeKeepalive = () => {};
    await plane.dispatchers.heartbeat(dispatcher);
  });

  it("neither loses nor doubles a claim or a commit whose reply was lost", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const server = await registerServer(plane, "s1");
    await scheduleMany(plane, 300);
    const sent = new Set<string>();
    faulty.faultOf = ({ then: [first] }) => {
      const content = first && "put" in first ? Buffer.from(first.put.value).toString("hex") : "";
      if (sent.has(content)) return "none";
      sent.add(content);
      return "reply lost";
    };
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const tasks = await fetchAll(plane, dispatcher);
    expect(new Set(tasks.map(({ conferenceId }) => conferenceId)).size).toBe(300);
    expect(tasks).toHaveLength(300);
    expect(tasks.every(({ attempt }) => attempt === 1)).toBe(true);
    const { results } = await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: tasks.map((task) => dispatchOf(task, server)),
    });
    expect(results.every(({ outcome }) => outcome.case === "dispatch")).toBe(true);
    expect((await plane.servers.getServer({ serverId: "s1" })).server?.reservedUnits).toBe(300);
  });

  it("sends again a claim of which it could not say whether it had landed", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    await scheduleMany(plane, 5);
    expect(await fetchAll(plane, { ...dispatcher, maxTasks: 1 })).toHaveLength(1);
    const sent = faulty.txns;
    faulty.faultOf = (_, attempt) => (attempt === sent + 1 ? "reply lost" : "unavailable");
    expect(await answerOf(fetchAll(plane, dispatcher))).toEqual(unavailable);
    faulty.faultOf = () => "none";
    const tasks = await fetchAll(plane, dispatcher);
    expect(tasks).toHaveLength(5);
    expect(tasks.every(({ attempt }) => attempt === 1)).toBe(true);
  });

  it("gives what a replaced fetch had claimed to the newer one", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    await scheduleMany(plane, 5);
    await fetchAll(plane, { ...dispatcher, maxTasks: 1 });
    const entered = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    faulty.afterTxn = async () => {
      faulty.afterTxn = () => {};
      entered.resolve();
      await release.promise;
      throw new StoreError("unknown_outcome", "no reply");
    };
    const old = answerOf(fetchAll(plane, dispatcher));
    await entered.promise;
    const young = fetchAll(plane, dispatcher);
    await new Promise((resolve) => setImmediate(resolve));
    release.resolve();
    expect(await old).toEqual({ code: Code.Aborted, reason: ErrorReason.CONTENTION });
    const tasks = await young;
    expect(tasks).toHaveLength(5);
    expect(tasks.every(({ attempt }) => attempt === 1)).toBe(true);
  });

  it("lets nothing of a dispatcher take effect whose registration ends at that moment (I5)", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const other = await plane.addReplica();
    const server = await registerServer(plane, "s1");
    await scheduleMany(plane, 6);
    const expired = { code: Code.FailedPrecondition, reason: ErrorReason.EPOCH_EXPIRED };
    /** Registers a dispatcher whose registration ends just before its next write. */
    const doomed = async (tasksFirst: boolean) => {
      const dispatcher = await registerDispatcher(plane, "d1", 600_000);
      const tasks = tasksFirst ? await fetchAll(plane, { ...dispatcher, maxTasks: 2 }) : [];
      // Opens the round, so that the next write is the one that counts.
      if (!tasksFirst) await fetchAll(plane, { ...dispatcher, maxTasks: 1 });
      const revision = await plane.revision();
      faulty.beforeTxn = async () => {
        faulty.beforeTxn = () => {};
        await other.dispatchers.deregisterDispatcher(dispatcher);
      };
      return { dispatcher, tasks, nothingWritten: async () => (await plane.revision()) === revision + 1n };
    };

    const claim = await doomed(false);
    expect(await answerOf(fetchAll(plane, claim.dispatcher))).toEqual(expired);
    expect(await claim.nothingWritten()).toBe(true);

    const commit = await doomed(true);
    const { results } = await plane.dispatchers.commitDispatches({
      ...commit.dispatcher,
      dispatches: commit.tasks.map((task) => dispatchOf(task, server)),
    });
    for (const { outcome } of results)
      expect(outcome).toMatchObject({ case: "rejection", value: { reason: ErrorReason.EPOCH_EXPIRED } });
    expect(await commit.nothingWritten()).toBe(true);

    const release = await doomed(true);
    const releases = release.tasks.map(({ conferenceId, dispatchEpoch }) => ({
      conferenceId,
      dispatchEpoch,
      cause: TaskRelease_Cause.START_FAILED,
    }));
    expect(await answerOf(plane.dispatchers.releaseTasks({ ...release.dispatcher, releases }))).toEqual(
      expired,
    );
    expect(await release.nothingWritten()).toBe(true);
  });

  it("places nothing on a server that begins a new life at that moment (I5)", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const other = await plane.addReplica();
    const server = await registerServer(plane, "s1");
    await scheduleMany(plane, 3);
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const tasks = await fetchAll(plane, dispatcher);
    faulty.beforeTxn = async () => {
      faulty.beforeTxn = () => {};
      await registerServer(other, "s1", { instanceId: "second" });
    };
    const { results } = await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: tasks.map((task) => dispatchOf(task, server)),
    });
    for (const { outcome } of results)
      expect(outcome).toMatchObject({ value: { reason: ErrorReason.INCARNATION_EXPIRED } });
    expect((await plane.conferences.listDispatches({})).dispatches).toEqual([]);
    expect(await fetchAll(plane, dispatcher)).toHaveLength(3);
  });

  it("says that the outcome is unknown when it stays so", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    faulty.faultOf = () => "request lost";
    const call = plane.conferences.createConference({ conference: conference(plane, "one") });
    await expect(call).rejects.toThrow(/whether the write took effect is unknown/);
    expect(await answerOf(plane.conferences.getConference({ conferenceId: "one" }))).toMatchObject({
      code: Code.NotFound,
    });
  });

  it("answers a caller that gave up with why, and complains of nothing", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const client = await plane.connect();
    const server = await registerServer(plane, "s1");
    await scheduleMany(plane, 10);
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const [task] = await fetchAll(plane, { ...dispatcher, maxTasks: 1 });
    if (!task) throw new Error("no task");
    let entered = Promise.withResolvers<void>();
    let release = Promise.withResolvers<void>();
    faulty.afterTxn = async () => {
      entered.resolve();
      await release.promise;
    };
    for (const [index, call] of [
      (signal: AbortSignal) =>
        client.conferences.createConference({ conference: conference(plane, "new") }, { signal }),
      (signal: AbortSignal) => client.conferences.cancelConference({ conferenceId: "c-0009" }, { signal }),
      (signal: AbortSignal) => fetchAll(client, dispatcher, { signal }),
      (signal: AbortSignal) =>
        client.dispatchers.commitDispatches(
          { ...dispatcher, dispatches: [dispatchOf(task, server)] },
          { signal },
        ),
      (signal: AbortSignal) => client.servers.cordonServer({ serverId: "s1" }, { signal }),
      (signal: AbortSignal) => client.dispatchers.registerDispatcher({ dispatcherId: "d2" }, { signal }),
    ].entries()) {
      entered = Promise.withResolvers<void>();
      release = Promise.withResolvers<void>();
      const controller = new AbortController();
      const answer = answerOf(call(controller.signal));
      await entered.promise;
      controller.abort();
      expect(await answer, `call ${index}`).toEqual({ code: Code.Canceled, reason: undefined });
      release.resolve();
    }
    faulty.afterTxn = () => {};
    // What was written stays written, and what comes next is served.
    expect((await plane.servers.listServers({})).servers).toHaveLength(1);
    await plane.servers.uncordonServer({ serverId: "s1" });
    expect(plane.complaints).toEqual([]);
  });
});
