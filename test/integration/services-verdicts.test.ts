import { describe, expect, it } from "vitest";
import { isolationMs, readDetection } from "../../common/detection.ts";
import { durationFromMs, durationMs, timestampMs } from "../../common/time.ts";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { heardWithinMs } from "../../server/health/standing.ts";
import { openControlPlane, passUntil } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { openFaulty } from "../support/faulty-control-plane.ts";
import {
  GRACE_MS,
  keys,
  observed,
  readHealth,
  SETTLE_MS,
  SOON_MS,
  stateOf,
  versionOf,
} from "../support/judged-servers.ts";
import {
  ANSWERS,
  pass,
  REFUSED,
  REFUSED_ONCE,
  registerDispatchers,
  registerServers,
  report,
  SILENT,
  SILENT_ONCE,
} from "../support/observing.ts";
import { dispatchOf, fetchAll, registerServer, scheduleMany } from "../support/scheduling.ts";

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
    const { health } = await readHealth(plane, "s01");
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
    const { health } = await readHealth(plane, "s01");
    await registerServer(plane, "s01");
    expect((await readHealth(plane, "s01")).health).toEqual(health);
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
    expect((await readHealth(plane, "s01")).server.drain).toBeDefined();
    const { server: open } = await plane.servers.uncordonServer({ serverId: "s01" });
    expect(open).toMatchObject({ cordoned: false });
    expect(open?.drain).toBeUndefined();
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
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
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
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
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
    expect((await readHealth(plane, "s01")).health.failures).toBe(0);
  });
});
