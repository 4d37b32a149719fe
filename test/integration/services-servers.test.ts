import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { openControlPlane } from "../support/control-plane.ts";
import { answerOf } from "../support/failures.ts";
import {
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

const notFound = { code: Code.NotFound, reason: ErrorReason.SERVER_NOT_FOUND };

describe("conference servers", () => {
  it("are registered, changed in place, and begin a new incarnation with another instance", async () => {
    await using plane = await openControlPlane();
    const server = await registerServer(plane, "s1", { capacity: 10 });
    expect(server).toMatchObject({ incarnation: 1n, state: Server_State.UP, cordoned: false, capacity: 10 });
    const revision = await plane.revision();
    expect(await registerServer(plane, "s1", { capacity: 10 })).toEqual(server);
    expect(await plane.revision()).toBe(revision);
    await plane.clock.advance(1_000);
    expect(await registerServer(plane, "s1", { capacity: 20 })).toEqual({ ...server, capacity: 20 });
    const reborn = await registerServer(plane, "s1", { instanceId: "second" });
    expect(reborn).toMatchObject({ incarnation: 2n, instanceId: "second" });
    expect(reborn.registerTime).not.toEqual(server.registerTime);
  });

  it("begin one new incarnation when the same instance registers many times at once", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    const servers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => registerServer(index % 2 ? plane : second, "s1")),
    );
    expect(servers.map(({ incarnation }) => incarnation)).toEqual(Array(8).fill(1n));
  });

  it("are closed and opened again, and keep that over a new life", async () => {
    await using plane = await openControlPlane();
    await registerServer(plane, "s1");
    for (let repeat = 0; repeat < 2; repeat++)
      expect((await plane.servers.cordonServer({ serverId: "s1" })).server?.cordoned).toBe(true);
    expect((await registerServer(plane, "s1", { instanceId: "second" })).cordoned).toBe(true);
    expect((await plane.servers.uncordonServer({ serverId: "s1" })).server?.cordoned).toBe(false);
    for (const call of ["getServer", "cordonServer", "uncordonServer"] as const)
      expect(await answerOf(plane.servers[call]({ serverId: "none" }))).toEqual(notFound);
  });

  it("are removed when nothing names them, also not a void dispatch", async () => {
    await using plane = await openControlPlane();
    const server = await registerServer(plane, "s1");
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    await scheduleMany(plane, 1);
    const [task] = await fetchAll(plane, dispatcher);
    if (!task) throw new Error("no task");
    await plane.dispatchers.commitDispatches({ ...dispatcher, dispatches: [dispatchOf(task, server)] });
    const inUse = { code: Code.FailedPrecondition, reason: ErrorReason.SERVER_IN_USE };
    expect(await answerOf(plane.servers.removeServer({ serverId: "s1" }))).toEqual(inUse);
    await registerServer(plane, "s1", { instanceId: "second" });
    expect(await answerOf(plane.servers.removeServer({ serverId: "s1" }))).toEqual(inUse);

    await fetchAll(plane, dispatcher);
    await plane.servers.removeServer({ serverId: "s1" });
    expect(await answerOf(plane.servers.getServer({ serverId: "s1" }))).toEqual(notFound);
    await plane.servers.removeServer({ serverId: "s1" });
    expect((await registerServer(plane, "s1")).incarnation).toBe(1n);
    expect(await answerOf(plane.conferences.getDispatch({ conferenceId: task.conferenceId }))).toMatchObject({
      reason: ErrorReason.DISPATCH_NOT_FOUND,
    });
  });

  it("stay when a conference is placed on them while they are removed", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    for (let round = 0; round < 10; round++) {
      const server = await registerServer(plane, `s${round}`);
      await scheduleMany(plane, 1, `r${round}`);
      const [task] = await fetchAll(plane, dispatcher);
      if (!task) throw new Error("no task");
      const dispatches = [dispatchOf(task, server)];
      const [removed, { results }] = await Promise.all([
        answerOf(second.servers.removeServer({ serverId: server.serverId })),
        plane.dispatchers.commitDispatches({ ...dispatcher, dispatches }),
      ]);
      const placed = results[0]?.outcome.case === "dispatch";
      expect(removed.code === 0).toBe(!placed);
      if (!placed) await plane.conferences.cancelConference({ conferenceId: task.conferenceId });
    }
  });

  it("page in order of IDs, over a socket", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    for (const id of ["s3", "s1", "s2"]) await registerServer(client, id);
    const page = await client.servers.listServers({ pageSize: 2 });
    expect(page.servers.map(({ serverId }) => serverId)).toEqual(["s1", "s2"]);
    const rest = await client.servers.listServers({ pageToken: page.nextPageToken });
    expect(rest.servers.map(({ serverId }) => serverId)).toEqual(["s3"]);
    expect(rest.nextPageToken).toBe("");
  });
});
