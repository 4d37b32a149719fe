import { clone, create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { isolationMs, readDetection } from "../../common/detection.ts";
import { durationFromMs, durationMs, timestampFromMs, timestampMs } from "../../common/time.ts";
import { ServerRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import {
  Server_Health_Cause,
  Server_HealthSchema,
  Server_State,
  ServerSchema,
} from "../../proto/gen/convoke/v1/server_pb.js";
import { heardWithinMs } from "../../server/health/standing.ts";
import { encodeBrake } from "../../server/operations/brake.ts";
import { createKeys } from "../../server/store/keys.ts";
import { type Clients, type ControlPlane, openControlPlane, passUntil } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { answerOf } from "../support/failures.ts";
import { createFaultyStore, type FaultyStore } from "../support/faulty-store.ts";
import {
  ANSWERS,
  pass,
  REFUSED,
  REFUSED_ONCE,
  type Registration,
  registerDispatchers,
  registerServers,
  report,
  SILENT,
  SILENT_ONCE,
} from "../support/observing.ts";
import {
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

const GRACE_MS = 2_000;
const SETTLE_MS = 150;
/** Longer than settling, and than any pace at which records are rewritten but for what only people read. */
const SOON_MS = 1_500;

const keys = createKeys();

async function read(clients: Clients, serverId: string) {
  const { server } = await clients.servers.getServer({ serverId });
  if (!server?.health) throw new Error(`no health of ${serverId}`);
  return { server, health: server.health };
}

async function stateOf(clients: Clients, serverId: string) {
  const { server, health } = await read(clients, serverId);
  return `${Server_State[server.state]} ${Server_Health_Cause[health.cause]}`;
}

/** How often a key was written since it was made. */
async function versionOf({ store }: Pick<ControlPlane, "store">, key: string) {
  return Number((await store.range({ key })).kvs[0]?.version ?? 0n);
}

/** Three observers of each of some servers, and past the grace of the replica. */
async function observed(plane: ControlPlane, count: number) {
  const dispatchers = await registerDispatchers(plane, 3);
  const servers = await registerServers(plane, count);
  await pass(plane, GRACE_MS);
  const [d1, d2, d3] = dispatchers as [Registration, Registration, Registration];
  return { dispatchers, servers, dead: servers.slice(0, 1), d1, d2, d3 };
}

describe("verdicts on conference servers", () => {
  it("follow a majority's two explicit refusals after the settling time, and say whose", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, dead } = await observed(plane, 8);
    expect(await stateOf(plane, "s01")).toBe("UP REGISTERED");
    await report(plane, d1, dead, REFUSED);
    await report(plane, d2, dead, REFUSED_ONCE);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await report(plane, d2, dead, REFUSED);
    await pass(plane, SETTLE_MS - 30, 10);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await pass(plane, 60, 10);
    expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
    const { health } = await read(plane, "s01");
    expect(health.message).toBe(
      "2 of 3 observers call it failed: d1 connection refused, d2 connection refused",
    );
    const { downTime, holdUntil, changeTime, failures } = health;
    if (!downTime || !holdUntil || !changeTime) throw new Error("times are missing");
    expect(failures).toBe(1);
    expect(changeTime).toEqual(downTime);
    expect(timestampMs(holdUntil) - timestampMs(downTime)).toBe(10_000);
  });

  it("I8: are never made by one observer of three, whatever it reports", async () => {
    await using plane = await openControlPlane();
    const { d1, servers } = await observed(plane, 8);
    const before = await versionOf(plane, keys.server("s01"));
    for (const seen of [REFUSED_ONCE, REFUSED, SILENT, { ...REFUSED, inARow: 1000 }, SILENT_ONCE]) {
      await report(plane, d1, servers, seen);
      await pass(plane, 5_000, 250);
    }
    expect(await versionOf(plane, keys.server("s01"))).toBe(before);
    expect(await stateOf(plane, "s01")).toBe("UP REGISTERED");
  });

  it("need the full count of timeouts, take a vote back, and void the dispatches in one write", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, d3, dead, servers } = await observed(plane, 8);
    const [dying] = servers;
    if (!dying) throw new Error("no server");
    await scheduleMany(plane, 3);
    const tasks = await fetchAll(plane, d3);
    const dispatches = tasks.map((task) => dispatchOf(task, dying));
    await plane.dispatchers.commitDispatches({ ...d3, dispatches });
    for (const one of [d1, d2]) await report(plane, one, dead, SILENT_ONCE);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT TIMEOUTS");
    await report(plane, d1, dead, ANSWERS);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("UP ANSWERS");
    expect((await plane.servers.getServer({ serverId: "s01" })).server?.conferenceCount).toBe(tasks.length);

    for (const one of [d1, d2]) await report(plane, one, dead, SILENT);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("DOWN TIMEOUTS");
    expect((await plane.servers.getServer({ serverId: "s01" })).server?.conferenceCount).toBe(0);
    for (const { conferenceId } of tasks)
      expect(await versionOf(plane, keys.conference(conferenceId))).toBe(3);
  });

  it("lose the vote of an observer whose lease ends, and bring nothing down by that of one that withdraws", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, dead } = await observed(plane, 8);
    for (const one of [d1, d2]) await report(plane, one, dead, REFUSED_ONCE);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await plane.dispatchers.deregisterDispatcher(d1);
    await pass(plane, SOON_MS);
    // Two observers are left, of whom one speaks.
    expect(await stateOf(plane, "s01")).toBe("UP ANSWERS");
    expect(await versionOf(plane, keys.observation("s01", "d1"))).toBe(0);

    const [again] = await registerDispatchers(plane, 1);
    if (!again) throw new Error("no dispatcher");
    await plane.dispatchers.reportObservations({ ...d2, withdrawn: true, withdrawReason: "probes lag" });
    await report(plane, again, dead, REFUSED);
    await plane.dispatchers.reportObservations({
      ...d2,
      observations: [{ serverId: "s01", incarnation: 1n, ...REFUSED }],
      withdrawn: true,
      withdrawReason: "probes lag",
    });
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    const counted = async () =>
      (await plane.servers.listObservations({ serverId: "s01" })).observations.map(
        (one) => `${one.dispatcherId} ${one.counts}`,
      );
    expect(await counted()).toEqual(["d1 true", "d2 false"]);
    await plane.dispatchers.reportObservations(d2);
    await pass(plane, SOON_MS);
    expect(await counted()).toEqual(["d1 true", "d2 true"]);
    expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
  });

  it("let a server back when a majority hears it, after 10 s and then after 60 s", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, dead } = await observed(plane, 8);
    for (const holdMs of [10_000, 60_000]) {
      for (const one of [d1, d2]) await report(plane, one, dead, REFUSED);
      await pass(plane, SOON_MS);
      expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
      for (const one of [d1, d2]) await report(plane, one, dead, ANSWERS);
      await pass(plane, holdMs - SOON_MS - 100, 100);
      expect(await stateOf(plane, "s01")).toBe("DOWN DAMPENED");
      await pass(plane, SOON_MS);
      expect(await stateOf(plane, "s01")).toBe("UP ANSWERS");
    }
  });

  it("keep what they know over a registration, and hold a new life that came too soon", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, dead } = await observed(plane, 8);
    for (const one of [d1, d2]) await report(plane, one, dead, REFUSED);
    await pass(plane, SOON_MS);
    const { health } = await read(plane, "s01");
    await registerServer(plane, "s01");
    expect((await read(plane, "s01")).health).toEqual(health);
    expect(await registerServer(plane, "s01", { instanceId: "second" })).toMatchObject({
      state: Server_State.DOWN,
      incarnation: 2n,
      health: { cause: Server_Health_Cause.DAMPENED, failures: 1 },
    });
    // What was said of the former life is no vote on this one.
    await report(plane, d1, dead, ANSWERS);
    await report(plane, d2, dead, ANSWERS);
    await pass(plane, 20_000, 250);
    expect(await stateOf(plane, "s01")).toBe("DOWN DAMPENED");
    const reborn = [{ serverId: "s01", incarnation: 2n }];
    for (const one of [d1, d2]) await report(plane, one, reborn, ANSWERS);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("UP ANSWERS");
  });

  it("wait for a restart that was announced, until the next registration or its deadline", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, dead } = await observed(plane, 8);
    const given = { serverId: "s01", agentAddress: "127.0.0.1:7500", capacity: 1000, instanceId: "first" };
    const { detection } = await plane.servers.registerServer({
      server: { ...given, driver: "none" },
      restartWithin: durationFromMs(30_000),
    });
    const settings = readDetection(detection);
    expect(durationMs(detection?.isolation ?? durationFromMs(0))).toBeCloseTo(isolationMs(settings));
    for (const one of [d1, d2]) await report(plane, one, dead, REFUSED);
    await pass(plane, 25_000, 250);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT RESTARTING");
    await registerServer(plane, "s01");
    // Back, it is given a moment to be heard in, and no more.
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT RESTARTING");
    await pass(plane, heardWithinMs(settings), 250);
    expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
  });

  it("tell how far a drain is, which uncordoning ends", async () => {
    await using plane = await openControlPlane();
    await registerServers(plane, 1);
    const { server } = await plane.servers.drainServer({ serverId: "s01", deadline: durationFromMs(60_000) });
    expect(server).toMatchObject({ cordoned: true, drain: { conferenceCount: 0, done: true } });
    await registerServer(plane, "s01");
    expect((await read(plane, "s01")).server.drain).toBeDefined();
    const { server: open } = await plane.servers.uncordonServer({ serverId: "s01" });
    expect(open).toMatchObject({ cordoned: false });
    expect(open?.drain).toBeUndefined();
  });
});

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
      expect((await read(plane, serverId)).health.message).toBe(
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
    let faulty: FaultyStore | undefined;
    await using plane = await openControlPlane({
      wrap(store) {
        faulty = createFaultyStore(store);
        return faulty.store;
      },
    });
    if (!faulty) throw new Error("no store");
    const { d1, d2, servers } = await observed(plane, 8);
    const [third] = servers.slice(2);
    faulty.beforeTxn = async ({ compare }) => {
      if (!third || !faulty || !compare.some(({ key }) => key === keys.brake)) return;
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

describe("the grace of a replica", () => {
  it("lets nothing go DOWN before it has followed the store for a while", async () => {
    await using plane = await openControlPlane();
    const { d1, d2, dead } = await observed(plane, 8);
    await plane.restart();
    for (const one of [d1, d2]) await report(plane, one, dead, REFUSED);
    await pass(plane, GRACE_MS - 100);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
  });

  it("begins anew when the store is back, and nothing is decided without it", async () => {
    let faulty: FaultyStore | undefined;
    await using plane = await openControlPlane({
      wrap(store) {
        faulty = createFaultyStore(store);
        return faulty.store;
      },
    });
    if (!faulty) throw new Error("no store");
    const { d1, d2, dead } = await observed(plane, 8);
    for (const one of [d1, d2]) await report(plane, one, dead, REFUSED);
    await pass(plane, SETTLE_MS - 50);
    faulty.lose();
    await eventually(() => plane.replica.fresh).toBe(false);
    await plane.clock.advance(30_000);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    faulty.restore();
    await passUntil(plane.clock, plane.replica.ready(new AbortController().signal), 100);
    await pass(plane, GRACE_MS - 300);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
  });

  it("I5: a replica does not act on a vote that was taken back while it was not looking", async () => {
    let faulty: FaultyStore | undefined;
    await using plane = await openControlPlane({
      wrap(store) {
        faulty = createFaultyStore(store);
        return faulty.store;
      },
    });
    if (!faulty) throw new Error("no store");
    const { d1, d2, dead } = await observed(plane, 8);
    let taken = false;
    faulty.beforeTxn = async ({ compare }) => {
      if (taken || !compare.some(({ key }) => key === keys.brake)) return;
      taken = true;
      // Between the judgement and its write, the observer hears the server again.
      await report(plane, d2, dead, ANSWERS);
    };
    for (const one of [d1, d2]) await report(plane, one, dead, REFUSED);
    await pass(plane, 10_000, 250);
    expect(taken).toBe(true);
    expect(await stateOf(plane, "s01")).toBe("UP ANSWERS");
    expect((await read(plane, "s01")).health.failures).toBe(0);
  });
});

describe("observations", () => {
  it("I5: are refused of an epoch that is over, whoever has the ID now", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    const { d1, d2, dead } = await observed(plane, 8);
    await report(plane, d2, dead, REFUSED);
    const successor = await registerDispatcher(second, "d1", 600_000);
    const failed = Code.FailedPrecondition;
    expect(await answerOf(report(plane, d1, dead, REFUSED))).toEqual({
      code: failed,
      reason: ErrorReason.DISPATCHER_REPLACED,
    });
    await second.dispatchers.deregisterDispatcher(successor);
    for (const gone of [d1, successor])
      expect(await answerOf(report(plane, gone, dead, REFUSED))).toEqual({
        code: failed,
        reason: ErrorReason.EPOCH_EXPIRED,
      });
    expect(await versionOf(plane, keys.observation("s01", "d1"))).toBe(0);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("UP REGISTERED");
  });

  it("I5: are fenced in the store by the epoch, also where the view does not know yet that it is over", async () => {
    let faulty: FaultyStore | undefined;
    await using plane = await openControlPlane({
      wrap(store) {
        faulty = createFaultyStore(store);
        return faulty.store;
      },
    });
    if (!faulty) throw new Error("no store");
    const { d1, dead } = await observed(plane, 8);
    const lease = (await plane.store.range({ key: keys.dispatcher("d1") })).kvs[0]?.lease ?? 0n;
    faulty.beforeTxn = async ({ compare }) => {
      if (!compare.some(({ key }) => key === keys.observation("s01", "d1"))) return;
      if (faulty) faulty.beforeTxn = () => {};
      // The ID is taken over in the moment before the write; the old lease lives on.
      const value =
        (await plane.store.range({ key: keys.dispatcher("d1") })).kvs[0]?.value ?? new Uint8Array();
      const grant = await plane.store.leaseGrant(600_000);
      await plane.store.txn({
        compare: [],
        then: [{ put: { key: keys.dispatcher("d1"), value, lease: grant.leaseId } }],
      });
    };
    expect(await answerOf(report(plane, d1, dead, REFUSED))).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.DISPATCHER_REPLACED,
    });
    expect((await plane.store.leaseKeepalive(lease)).ttlMs).toBeGreaterThan(0);
    expect(await versionOf(plane, keys.observation("s01", "d1"))).toBe(0);
  });

  it("are written once however often they are repeated, and cleared when the server is well", async () => {
    await using plane = await openControlPlane();
    const { d1, dead } = await observed(plane, 8);
    const key = keys.observation("s01", "d1");
    await report(plane, d1, dead, ANSWERS);
    expect(await versionOf(plane, key)).toBe(0);
    for (let repeat = 0; repeat < 3; repeat++) await report(plane, d1, dead, REFUSED_ONCE);
    expect(await versionOf(plane, key)).toBe(1);
    await report(plane, d1, [{ serverId: "s01", incarnation: 1n }], REFUSED);
    expect(await versionOf(plane, key)).toBe(2);
    await report(plane, d1, [{ serverId: "none", incarnation: 1n }], REFUSED);
    expect(await versionOf(plane, keys.observation("none", "d1"))).toBe(0);
    const { observations } = await plane.servers.listObservations({});
    expect(observations).toHaveLength(1);
    expect(observations[0]).toMatchObject({ serverId: "s01", dispatcherId: "d1", inARow: 2, counts: true });
    expect(observations[0]?.reportTime).toBeDefined();
    await report(plane, d1, dead, ANSWERS);
    expect(await versionOf(plane, key)).toBe(0);
    expect((await plane.servers.listObservations({})).observations).toEqual([]);
  });

  it("go into as many transactions as they need", async () => {
    await using plane = await openControlPlane();
    const [d1, d2] = await registerDispatchers(plane, 2);
    if (!d1 || !d2) throw new Error("no dispatchers");
    const servers = await registerServers(plane, 300);
    await pass(plane, GRACE_MS);
    for (const one of [d1, d2]) await report(plane, one, servers, SILENT);
    const firstPage = await plane.servers.listObservations({ pageSize: 400 });
    const { nextPageToken: pageToken } = firstPage;
    const rest = await plane.servers.listObservations({ pageSize: 400, pageToken });
    expect(rest.nextPageToken).toBe("");
    const told = [...firstPage.observations, ...rest.observations].map(
      ({ serverId, dispatcherId }) => `${serverId}/${dispatcherId}`,
    );
    expect(told).toHaveLength(600);
    expect(told).toEqual([...new Set(told)].sort());
    await pass(plane, SOON_MS);
    const { servers: page } = await plane.servers.listServers({ pageSize: 1000 });
    expect(new Set(page.map(({ health }) => health?.cause))).toEqual(
      new Set([Server_Health_Cause.HELD_BY_BRAKE]),
    );
    await plane.servers.releaseBrake({});
    await pass(plane, SOON_MS);
    const { servers: down } = await plane.servers.listServers({ pageSize: 1000 });
    expect(new Set(down.map(({ state }) => state))).toEqual(new Set([Server_State.DOWN]));
    expect((await plane.replica.metrics.render()).text).toMatch(
      /convoke_server_verdicts_total\{state="down",cause="timeouts"\} 300\n/,
    );
  });
});
