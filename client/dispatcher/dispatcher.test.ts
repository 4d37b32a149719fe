import { Code, ConnectError } from "@connectrpc/connect";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../common/clock.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { createDispatcherWorld } from "../../test/support/dispatcher-world.ts";
import { allSettled, runDispatchers, SOON } from "../../test/support/run-dispatchers.ts";
import { type DispatcherOptions, runDispatcher } from "./dispatcher.ts";

describe("a dispatcher", () => {
  const start = runDispatchers();
  const sum = (counts: Record<string, number>) =>
    Object.values(counts).reduce((total, one) => total + one, 0);

  it("places its whole share evenly, in batches, with every row hosted", async () => {
    const world = createDispatcherWorld();
    for (let index = 0; index < 7; index++) world.addServer(`s${index}`);
    world.addConferences(1_000);
    const { stats } = start(world);
    await allSettled(world);
    const counts = Object.values(world.activeByServer());
    expect(sum(world.activeByServer())).toBe(1_000);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
    expect(stats).toMatchObject({
      claimed: 1_000,
      started: 1_000,
      committed: 1_000,
      released: 0,
      rejected: 0,
    });
    // 143 on each server are two batches.
    expect(world.calls.filter((call) => call.startsWith("start "))).toHaveLength(14);
    for (const call of world.calls)
      expect(Number(/^commit (\d+)$/.exec(call)?.[1] ?? 0)).toBeLessThanOrEqual(100);
  });

  it("takes a conference that falls due later, without waiting for others under way", async () => {
    const world = createDispatcherWorld();
    const slow = world.addServer("slow", { labels: { kind: "slow" } });
    world.addServer("quick");
    const gate = Promise.withResolvers<void>();
    slow.beforeStart = () => gate.promise;
    const [held] = world.addConferences(1, { requiredLabels: { kind: "slow" } });
    start(world);
    await expect.poll(() => held?.state, SOON).toBe("claimed");
    await expect.poll(() => world.calls.includes("start slow 1"), SOON).toBe(true);
    const [next] = world.addConferences(1);
    slow.othersUnits = 900;
    await expect.poll(() => next?.state, SOON).toBe("active");
    expect(held?.state).toBe("claimed");
    gate.resolve();
    await allSettled(world);
    // It was sent again with every fetch, and started once.
    expect(world.calls.filter((call) => call.startsWith("start slow"))).toEqual(["start slow 1"]);
    world.activeByServer();
  });

  it("moves what a server refuses, does not answer or fails to start to another, and stops the doubtful", async () => {
    const world = createDispatcherWorld();
    const refusing = world.addServer("refusing", {
      beforeStart: () => {
        throw world.unreachable();
      },
    });
    const silent = world.addServer("silent", {
      afterStart: () => {
        throw world.late();
      },
    });
    const failing = world.addServer("failing", {
      rejectStart: () => ({ reason: ErrorReason.DRIVER_FAILED, message: "no media" }),
    });
    world.addServer("well");
    world.addConferences(8);
    const { stats } = start(world);
    await allSettled(world);
    await expect.poll(() => silent.hosted.size, SOON).toBe(0);
    expect(world.activeByServer()).toEqual({ well: 8 });
    expect(stats.startFailures).toBeGreaterThan(0);
    expect(silent.stopped.length).toBeGreaterThan(0);
    expect(failing.stopped).toEqual([]);
    expect(refusing.hosted.size).toBe(0);
  });

  it("releases what could not be started anywhere, with what each server said", async () => {
    const world = createDispatcherWorld();
    for (const id of ["a", "b", "c", "d"]) {
      world.addServer(id, {
        rejectStart: () => ({ reason: ErrorReason.DRIVER_FAILED, message: "no media" }),
      });
    }
    const [conference] = world.addConferences(1);
    const { stats } = start(world);
    await allSettled(world);
    expect(conference?.releases).toEqual([
      {
        cause: "START_FAILED",
        message:
          "a: DRIVER_FAILED: no media; b: DRIVER_FAILED: no media; c: DRIVER_FAILED: no media; 3 servers were tried",
      },
    ]);
    await expect.poll(() => stats, SOON).toMatchObject({ startFailures: 3, released: 1, committed: 0 });
  });

  it("releases what no server has room for, and says why", async () => {
    const world = createDispatcherWorld();
    world.addServer("full", { capacity: 10, othersUnits: 8 });
    world.addServer("down", { state: Server_State.DOWN });
    const [large] = world.addConferences(1, { weight: 3 });
    const [small] = world.addConferences(1, { weight: 2 });
    start(world);
    await allSettled(world);
    expect(small?.state).toBe("active");
    expect(large?.releases).toEqual([
      { cause: "NO_CAPACITY", message: "of 2 servers: 1 down, 1 without room for 3 units" },
    ]);
  });

  it("claims nothing while no server takes work", async () => {
    const world = createDispatcherWorld();
    world.addServer("down", { state: Server_State.DOWN });
    const [conference] = world.addConferences(1);
    let fetches = 0;
    world.hooks.beforeFetch = async () => {
      fetches++;
    };
    const { stop } = start(world);
    await expect.poll(() => world.calls, SOON).toContain("register");
    await stop();
    expect(fetches).toBe(0);
    expect(conference?.state).toBe("due");
  });

  it("repeats a commit whose reply was lost, and neither stops nor starts again what it wrote", async () => {
    const world = createDispatcherWorld();
    const server = world.addServer("a");
    world.addConferences(20);
    let losses = 2;
    world.hooks.afterCommit = async () => {
      if (losses-- > 0) throw world.lost();
    };
    const { stats } = start(world);
    await expect.poll(() => stats.committed, SOON).toBe(20);
    expect(world.calls.filter((call) => call.startsWith("commit"))).toEqual(Array(3).fill("commit 20"));
    expect(world.calls.filter((call) => call.startsWith("start"))).toEqual(["start a 20"]);
    expect(server.stopped).toEqual([]);
    expect(world.activeByServer()).toEqual({ a: 20 });
  });

  it("stops what it started when the commit says that it is not its own", async () => {
    const world = createDispatcherWorld();
    const server = world.addServer("a");
    const [lost, kept] = world.addConferences(2);
    world.hooks.rejectCommit = ({ conferenceId }) =>
      conferenceId === lost?.id ? { reason: ErrorReason.STATE_CONFLICT, message: "cancelled" } : undefined;
    const { stats } = start(world);
    await expect.poll(() => server.stopped, SOON).toEqual([lost?.id]);
    expect(kept?.state).toBe("active");
    expect(stats).toMatchObject({ started: 2, committed: 1, rejected: 1, released: 0 });
  });

  it("places elsewhere what the control plane has no room for, and sees that the server is full", async () => {
    const world = createDispatcherWorld();
    const a = world.addServer("a", { capacity: 10 });
    world.addServer("b", { capacity: 10 });
    // Others fill it up between the plan and the commit.
    a.beforeStart = () => {
      a.othersUnits = 8;
    };
    world.addConferences(8);
    const { stats } = start(world);
    await allSettled(world);
    await expect.poll(() => a.hosted.size, SOON).toBe(2);
    expect(world.activeByServer()).toEqual({ a: 2, b: 6 });
    expect(stats).toMatchObject({ rejected: 2, committed: 8, released: 0, startFailures: 0 });
  });

  it("finds a server again that has begun another life", async () => {
    const world = createDispatcherWorld();
    const server = world.addServer("a");
    const [first] = world.addConferences(1);
    start(world);
    await expect.poll(() => first?.state, SOON).toBe("active");
    server.incarnation = 2n;
    server.hosted.clear();
    const [second] = world.addConferences(1);
    await allSettled(world);
    expect(second?.dispatch?.incarnation).toBe(2n);
  });

  it("isolates a dispatch that the control plane finds invalid", async () => {
    const world = createDispatcherWorld();
    const server = world.addServer("a");
    const conferences = world.addConferences(9);
    const bad = conferences[4];
    world.hooks.beforeCommit = async ({ dispatches }) => {
      if (dispatches.some(({ conferenceId }) => conferenceId === bad?.id)) {
        throw new ConnectError("dispatches[4].address must be at most 2048 bytes", Code.InvalidArgument);
      }
    };
    start(world);
    await allSettled(world);
    expect(conferences.filter(({ state }) => state === "active")).toHaveLength(8);
    expect(bad?.releases[0]?.cause).toBe("START_FAILED");
    expect(bad?.releases[0]?.message).toContain("address must be at most 2048 bytes");
    await expect.poll(() => server.stopped, SOON).toEqual([bad?.id]);
  });

  it("drops its work when its epoch ends, and does it again under the next", async () => {
    const world = createDispatcherWorld();
    const server = world.addServer("a");
    const conferences = world.addConferences(5);
    const first = Promise.withResolvers<void>();
    world.hooks.beforeCommit = async () => {
      world.hooks.beforeCommit = async () => {};
      world.expireEpoch();
      first.resolve();
    };
    const { stats } = start(world);
    await first.promise;
    await allSettled(world);
    expect(world.calls.filter((call) => call === "register")).toHaveLength(2);
    expect(stats.committed).toBe(5);
    expect(server.stopped).toEqual([]);
    const dispatchEpochs = conferences.map(({ dispatch }) => dispatch?.dispatchEpoch ?? 0n);
    expect(conferences.map(({ id }) => server.hosted.get(id))).toEqual(dispatchEpochs);
  });

  it("sends nothing when it wakes from a pause that outlasted its epoch, though no timer has fired yet", async () => {
    for (const pausedAt of ["fetch", "before the start", "start"]) {
      const world = createDispatcherWorld();
      const server = world.addServer("a");
      const [conference] = world.addConferences(1);
      let pausedMs = 0;
      const pause = () => {
        pausedMs ||= 120_000;
      };
      if (pausedAt === "fetch") world.hooks.beforeFetch = async () => pause();
      if (pausedAt === "start") server.afterStart = pause;
      const connectAgent = (address: string) => {
        if (pausedAt === "before the start") pause();
        return world.connectAgent(address);
      };
      const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + pausedMs };
      start({ ...world, connectAgent }, {}, clock);
      await expect.poll(() => conference?.state, SOON).toBe("active");
      const firstLife = pausedAt === "start" ? ["register", "start a 1"] : ["register"];
      expect(world.calls).toEqual([...firstLife, "register", "start a 1", "commit 1"]);
      world.activeByServer();
    }
  });

  it("stops in order: finishes what is started, gives back the rest, deregisters", async () => {
    const world = createDispatcherWorld();
    const a = world.addServer("a");
    const conferences = world.addConferences(300);
    const begun = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    a.beforeStart = () => {
      begun.resolve();
      return gate.promise;
    };
    // Two of 100 at a time would follow each other; the pace keeps the rest back.
    const { stop, stats } = start(world, { startRate: 400 });
    await begun.promise;
    const stopped = stop();
    gate.resolve();
    await stopped;
    const active = conferences.filter(({ state }) => state === "active");
    const released = conferences.filter(({ releases }) => releases[0]?.cause === "SHUTTING_DOWN");
    expect(active).toHaveLength(100);
    expect(active.length + released.length).toBe(300);
    expect(world.calls.at(-1)).toBe("deregister");
    expect(stats).toMatchObject({ committed: 100, released: 200 });
    world.activeByServer();
  });

  it("does not wait longer than its grace for an agent that hangs", async () => {
    const world = createDispatcherWorld();
    const server = world.addServer("a");
    const begun = Promise.withResolvers<void>();
    server.beforeStart = () => {
      begun.resolve();
      return new Promise(() => {});
    };
    world.addConferences(1);
    const { stop } = start(world, { stopGraceMs: 50 });
    await begun.promise;
    await stop();
    expect(world.calls.at(-1)).toBe("deregister");
    expect(world.calls.filter((call) => call.startsWith("commit"))).toEqual([]);
  });

  it("goes on when calls fail, and refuses options it does not know", async () => {
    const world = createDispatcherWorld();
    world.addServer("a");
    const [conference] = world.addConferences(1);
    let failures = 3;
    world.hooks.beforeFetch = async () => {
      if (failures-- > 0) throw world.unreachable();
    };
    start(world);
    await expect.poll(() => conference?.state, SOON).toBe("active");
    const unknown = { id: "d1", interval: 3 } as DispatcherOptions;
    const context = { logger: pino({ level: "silent" }) };
    await expect(runDispatcher(unknown, new AbortController().signal, context)).rejects.toThrow(TypeError);
  });
});
