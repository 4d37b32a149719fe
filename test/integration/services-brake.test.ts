import { clone, create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { durationFromMs, timestampFromMs, timestampMs } from "../../common/time.ts";
import { ServerRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Server_HealthSchema, Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import { encodeBrake } from "../../server/operations/brake.ts";
import { openControlPlane } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { openFaulty } from "../support/faulty-control-plane.ts";
import { keys, observed, readHealth, SOON_MS, stateOf, versionOf } from "../support/judged-servers.ts";
import { ANSWERS, pass, REFUSED, report, SILENT } from "../support/observing.ts";

describe("the brake", () => {
  it("holds ten of twenty, says so everywhere, and lets them go when they answer", async () => {
    await using plane = await openControlPlane();
    const { dispatchers, servers } = await observed(plane, 20);
    const frozen = servers.slice(0, 10);
    for (const one of dispatchers) await report(plane, one, frozen, SILENT);
    await pass(plane, 120_000, 1_000);
    const { brake } = await plane.servers.getDetection({});
    expect(brake).toMatchObject({ engaged: true, failingServers: 10, servers: 20, allowedServers: 6 });
    expect(brake?.message).toContain("10 of 20 servers fail");
    expect(brake?.heldServerIds).toEqual(frozen.map(({ serverId }) => serverId));
    for (const { serverId } of frozen) {
      expect(await stateOf(plane, serverId)).toBe("SUSPECT HELD_BY_BRAKE");
      expect((await readHealth(plane, serverId)).health.message).toBe(
        "held by the brake: 10 of 20 servers fail, 6 may; release it with `convoke release-brake` if they are really dead",
      );
    }
    expect((await plane.replica.metrics.render()).text).toMatch(/convoke_brake_engaged 1\n/);
    for (const one of dispatchers) await report(plane, one, frozen, ANSWERS);
    await pass(plane, SOON_MS);
    for (const { serverId } of frozen) expect(await stateOf(plane, serverId)).toBe("UP ANSWERS");
    expect((await plane.servers.getDetection({})).brake).toMatchObject({ engaged: false, failingServers: 0 });
  });

  it("is released for a time by an operator, and engages again after that", async () => {
    await using plane = await openControlPlane();
    const { dispatchers, servers } = await observed(plane, 20);
    for (const one of dispatchers) await report(plane, one, servers.slice(0, 10), SILENT);
    await pass(plane, SOON_MS);
    const { brake } = await plane.servers.releaseBrake({ duration: durationFromMs(90_000) });
    expect(timestampMs(brake?.releasedUntil ?? (undefined as never))).toBe(plane.clock.wallMs() + 90_000);
    await pass(plane, SOON_MS);
    for (const { serverId } of servers.slice(0, 10))
      expect(await stateOf(plane, serverId)).toBe("DOWN TIMEOUTS");
    // Of the ten that are not long DOWN three may fail.
    await pass(plane, 95_000, 1_000);
    expect((await plane.servers.getDetection({})).brake?.releasedUntil).toBeUndefined();
    for (const one of dispatchers) await report(plane, one, servers.slice(10, 15), SILENT);
    await pass(plane, 30_000, 250);
    for (const { serverId } of servers.slice(10, 15))
      expect(await stateOf(plane, serverId)).toBe("SUSPECT HELD_BY_BRAKE");
  });

  it("is not exceeded by replicas that judge at once, and each verdict is written once", async () => {
    await using plane = await openControlPlane();
    const others = [await plane.addReplica(), await plane.addReplica()];
    const { d1, d2, servers } = await observed(plane, 20);
    const dying = servers.slice(0, 6);
    await Promise.all([
      report(plane, d1, dying, REFUSED),
      report(others[0] ?? plane, d2, dying.slice(0, 3), REFUSED),
      report(others[1] ?? plane, d2, dying.slice(3), REFUSED),
    ]);
    await pass(plane, SOON_MS);
    for (const { serverId } of dying) {
      for (const clients of [plane, ...others])
        await eventually(() => stateOf(clients, serverId)).toBe("DOWN REFUSALS");
      // Registered, SUSPECT, DOWN.
      expect(await versionOf(plane, keys.server(serverId))).toBe(3);
    }
    await Promise.all(
      servers.slice(6, 12).flatMap((server, index) => {
        const clients = [plane, ...others][index % 3] ?? plane;
        return [report(clients, d1, [server], REFUSED), report(clients, d2, [server], REFUSED)];
      }),
    );
    await pass(plane, 30_000, 250);
    for (const { serverId } of servers.slice(6, 12))
      expect(await stateOf(plane, serverId)).toBe("SUSPECT HELD_BY_BRAKE");
    expect(plane.complaints.filter(({ msg }) => msg !== "conference server declared down")).toEqual([]);
  });

  it("is not exceeded by a replica that has not seen yet what another one declared DOWN", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const { d1, d2, servers } = await observed(plane, 8);
    const [third] = servers.slice(2);
    faulty.beforeTxn = async ({ compare }) => {
      if (!third || !compare.some(({ key }) => key === keys.brake)) return;
      faulty.beforeTxn = () => {};
      const server = clone(ServerSchema, third);
      server.state = Server_State.DOWN;
      server.health = create(Server_HealthSchema, { downTime: timestampFromMs(plane.clock.wallMs()) });
      const value = toBinary(ServerRecordSchema, create(ServerRecordSchema, { server }));
      await plane.store.txn({
        compare: [],
        then: [
          { put: { key: keys.server(third.serverId), value } },
          { put: { key: keys.brake, value: encodeBrake(0, "another replica") } },
        ],
      });
    };
    for (const one of [d1, d2]) await report(plane, one, servers.slice(0, 2), REFUSED);
    await pass(plane, 10_000, 250);
    expect(await stateOf(plane, "s03")).toMatch(/^DOWN/);
    for (const id of ["s01", "s02"]) expect(await stateOf(plane, id)).toBe("SUSPECT HELD_BY_BRAKE");
  });
});
