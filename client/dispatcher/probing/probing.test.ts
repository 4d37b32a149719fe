import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import type { Clock } from "../../../common/clock.ts";
import { compileDetection, type DetectionSettings } from "../../../common/detection.ts";
import { highestRanked } from "../../../common/rendezvous.ts";
import { AgentService } from "../../../proto/gen/convoke/v1/agent_service_pb.js";
import {
  DispatcherService,
  Observation_Verdict,
  type ReportObservationsRequest,
} from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State, ServerSchema } from "../../../proto/gen/convoke/v1/server_pb.js";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createEpoch, type OwnedEpoch } from "../epoch.ts";
import { createServerTable } from "../server-table.ts";
import type { PortState } from "./check-port.ts";
import { createProbing, type Probing } from "./probing.ts";
import type { ProbeKind } from "./server-observer.ts";

const SETTINGS = compileDetection();
const { probeIntervalMs, probeTimeoutMs, graceMs } = SETTINGS;
/** The longest time between two probes of a server that answers. */
const ROUND_MS = probeIntervalMs * 1.1 + 50;

/** How a server of the test behaves. */
type Manner = "ok" | "refused" | "silent";

/** One dispatcher's probing of servers in memory, on a clock that stands still. */
function setUp({
  servers = ["s1"],
  settings = SETTINGS,
}: {
  servers?: string[];
  settings?: DetectionSettings;
} = {}) {
  const fake = createFakeClock();
  /** Added to what the process sees as the time, all at once, as after SIGCONT. */
  let pausedMs = 0;
  const clock: Clock = {
    wallMs: () => fake.wallMs() + pausedMs,
    monotonicMs: () => fake.monotonicMs() + pausedMs,
    setTimer: (callback, delayMs) => fake.setTimer(callback, delayMs),
  };
  const manners = new Map<string, Manner>();
  const probes: { serverId: string; atMs: number }[] = [];
  const breaks = new Map<string, () => void>();
  const connectAgent = (address: string) => {
    const serverId = address.split(":")[0] ?? "";
    const transport = createRouterTransport(({ service }) => {
      service(AgentService, {
        async keepalive() {
          probes.push({ serverId, atMs: clock.monotonicMs() });
          const manner = manners.get(serverId) ?? "ok";
          if (manner === "refused") throw new ConnectError("no connection", Code.Unavailable);
          if (manner === "silent") {
            await new Promise<void>((resolve) => fake.setTimer(resolve, probeTimeoutMs));
            throw new ConnectError("too late", Code.DeadlineExceeded);
          }
          return { serverId, incarnation: 1n };
        },
      });
    });
    const client = createClient(AgentService, transport);
    return {
      // Without a deadline: that would be on the real clock.
      ...client,
      keepalive: (request: Parameters<typeof client.keepalive>[0]) => client.keepalive(request),
      onceDisconnected: (listener: () => void) => void breaks.set(serverId, listener),
      close() {},
      [Symbol.dispose]() {},
    };
  };
  const table = createServerTable({ clock, connectAgent });
  let revision = 0n;
  function put(serverId: string, more: { incarnation?: bigint; state?: Server_State } = {}) {
    const known = table.get(serverId);
    const server = create(ServerSchema, {
      serverId,
      agentAddress: `${serverId}:1`,
      incarnation: known?.incarnation ?? 1n,
      state: Server_State.UP,
      ...more,
    });
    table.apply({ $typeName: "convoke.v1.ServerEvent", type: 1, server }, ++revision);
  }
  for (const serverId of servers) put(serverId);

  const listeners = new Set<() => void>();
  const registry = {
    ids: new Set(["d1"]) as ReadonlySet<string>,
    onChange(listener: () => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const requests: ReportObservationsRequest[] = [];
  const stored = new Map<string, string>();
  const transport = createRouterTransport(({ service }) => {
    service(DispatcherService, {
      reportObservations(request) {
        requests.push(request);
        for (const { serverId, verdict, inARow } of request.observations)
          stored.set(serverId, `${Observation_Verdict[verdict]} ${inARow}`);
        return {};
      },
    });
  });
  const figures = { lagMs: [] as number[], results: [] as ProbeKind[], servers: 0, withdrawn: false };
  const ports = { state: "refused" as PortState };
  const running: { stop: () => Promise<void> }[] = [];

  function start(): { probing: Probing; epoch: OwnedEpoch; stop: () => Promise<void> } {
    const epoch = createEpoch({
      dispatcherId: "d1",
      epoch: 1n,
      ttlMs: 3_600_000,
      sentAtMs: clock.monotonicMs(),
      clock,
    });
    const probing = createProbing({
      dispatcherId: "d1",
      epoch,
      settings,
      table,
      registry,
      client: createClient(DispatcherService, transport),
      checkPort: async (address) =>
        manners.get(address.split(":")[0] ?? "") === "refused" ? "refused" : ports.state,
      metrics: {
        probeSent: (lagMs) => void figures.lagMs.push(lagMs),
        probeDone: (result) => void figures.results.push(result),
        observed: (count, withdrawn) => Object.assign(figures, { servers: count, withdrawn }),
      },
      clock,
      logger: pino({ level: "silent" }),
      random: () => 0.5,
    });
    const stopping = new AbortController();
    const over = probing.run(stopping.signal);
    const stop = () => {
      stopping.abort();
      return over;
    };
    running.push({ stop });
    return { probing, epoch, stop };
  }
  return {
    clock: fake,
    manners,
    probes,
    breaks,
    table,
    put,
    registry,
    setRegistry(ids: string[]) {
      registry.ids = new Set(ids);
      for (const listener of listeners) listener();
    },
    requests,
    stored,
    figures,
    ports,
    running,
    start,
    pause: (ms: number) => {
      pausedMs += ms;
    },
    probed: (serverId: string) => probes.filter((one) => one.serverId === serverId).length,
  };
}

describe("probing", () => {
  let worlds: ReturnType<typeof setUp>[] = [];
  afterEach(async () => {
    for (const { running, clock } of worlds) {
      const over = Promise.all(running.map(({ stop }) => stop()));
      await clock.advance(2 * probeTimeoutMs);
      await over;
    }
    worlds = [];
  });
  function world(options?: Parameters<typeof setUp>[0]) {
    const made = setUp(options);
    worlds.push(made);
    return made;
  }

  it("asks each server once an interval, the first time spread over one, and says nothing of those that answer", async () => {
    const servers = Array.from({ length: 20 }, (_, index) => `s${index}`);
    const { clock, start, probes, requests, figures } = world({ servers });
    start();
    await clock.advance(10 * ROUND_MS);
    for (const serverId of servers) {
      const count = probes.filter((one) => one.serverId === serverId).length;
      expect(count).toBeGreaterThanOrEqual(9);
      expect(count).toBeLessThanOrEqual(12);
    }
    expect(requests).toEqual([]);
    expect(figures).toMatchObject({ servers: 20, withdrawn: false });
    expect(Math.max(...figures.lagMs)).toBe(0);
    // One timer for all probes, besides the epoch's and the beat's.
    expect(clock.pending).toBeLessThanOrEqual(3);
  });

  it("reports a refusal after two, and takes it back after two answers", async () => {
    const { clock, manners, start, stored } = world();
    const { probing } = start();
    await clock.advance(2 * ROUND_MS);
    expect(probing.reach("s1")).toBe("answers");
    manners.set("s1", "refused");
    await clock.advance(ROUND_MS + SETTINGS.probeRetryMs);
    expect(stored.get("s1")).toBe("FAILED 2");
    expect(probing.reach("s1")).toBe("fails");
    manners.set("s1", "ok");
    await clock.advance(ROUND_MS + SETTINGS.probeRetryMs);
    expect(stored.get("s1")).toBe("OK 2");
    expect(probing.reach("s1")).toBe("answers");
  });

  it("notices the death of a process at once, by its connection", async () => {
    const { clock, manners, start, stored, breaks } = world();
    start();
    await clock.advance(2 * ROUND_MS);
    manners.set("s1", "refused");
    breaks.get("s1")?.();
    await clock.advance(SETTINGS.probeRetryMs + 20);
    expect(stored.get("s1")).toBe("FAILED 2");
  });

  it("calls nothing failed that it has not heard while its grace lasts, also when it takes a server over", async () => {
    const { clock, manners, start, stored, put } = world();
    manners.set("s1", "refused");
    start();
    await clock.advance(graceMs - 10);
    expect(stored.size).toBe(0);
    await clock.advance(10 + ROUND_MS + SETTINGS.probeRetryMs);
    expect(stored.get("s1")).toBe("FAILED 2");
    manners.set("s2", "refused");
    put("s2");
    await clock.advance(graceMs - 10);
    expect(stored.has("s2")).toBe(false);
  });

  it("votes for the return of a server that is down, anew each time", async () => {
    const { clock, start, stored, put } = world();
    start();
    await clock.advance(3 * ROUND_MS);
    expect(stored.size).toBe(0);
    put("s1", { state: Server_State.SUSPECT });
    await clock.advance(10);
    expect(stored.get("s1")).toBe("OK 2");
    stored.clear();
    put("s1", { state: Server_State.DOWN });
    await clock.advance(10);
    expect(stored.get("s1")).toBe("OK 2");
  });

  it("begins anew with another incarnation: what failed was the one before (I5)", async () => {
    const { clock, manners, start, requests, put, probing } = (() => {
      const made = world();
      return { ...made, probing: made.start().probing };
    })();
    await clock.advance(2 * ROUND_MS);
    manners.set("s1", "refused");
    await clock.advance(2 * ROUND_MS);
    expect(requests.at(-1)?.observations).toMatchObject([{ incarnation: 1n, inARow: 2 }]);
    manners.set("s1", "ok");
    put("s1", { incarnation: 2n });
    expect(probing.reach("s1")).toBe("answers");
    await clock.advance(2 * ROUND_MS);
    // The vote of the life before may still lie there.
    expect(requests.at(-1)?.observations).toMatchObject([
      { incarnation: 2n, verdict: Observation_Verdict.OK },
    ]);
    void start;
  });

  it("observes those servers for which it ranks among the first, and changes at once with the registry", async () => {
    const servers = Array.from({ length: 30 }, (_, index) => `s${index}`);
    const { clock, start, setRegistry, figures, probes } = world({ servers });
    start();
    const others = ["d1", "d2", "d3", "d4", "d5", "d6"];
    const mine = (ids: string[]) =>
      servers.filter((serverId) => highestRanked(serverId, ids, SETTINGS.observers).includes("d1"));
    expect(figures.servers).toBe(30);
    setRegistry(others);
    expect(figures.servers).toBe(mine(others).length);
    expect(figures.servers).toBeLessThan(30);
    await clock.advance(0);
    probes.length = 0;
    await clock.advance(3 * ROUND_MS);
    expect([...new Set(probes.map(({ serverId }) => serverId))].toSorted()).toEqual(mine(others).toSorted());
    setRegistry(["d2"]);
    expect(figures.servers).toBe(0);
    probes.length = 0;
    await clock.advance(3 * ROUND_MS);
    expect(probes).toEqual([]);
  });

  it("leaves a doubt, and no verdict, of a server that it observes no more", async () => {
    const { clock, manners, start, stored, setRegistry } = world();
    start();
    await clock.advance(2 * ROUND_MS);
    manners.set("s1", "refused");
    await clock.advance(2 * ROUND_MS);
    setRegistry(["d2", "d3"]);
    await clock.advance(10);
    expect(stored.get("s1")).toBe("TIMEOUT 1");
  });

  it("withdraws when most of what it probes falls silent at once, before it calls anything failed", async () => {
    const servers = Array.from({ length: 8 }, (_, index) => `s${index}`);
    const { clock, manners, start, stored, requests, figures } = world({ servers });
    start();
    await clock.advance(2 * ROUND_MS);
    for (const serverId of servers) manners.set(serverId, "silent");
    await clock.advance(10_000);
    const firstVerdict = requests.findIndex(({ observations }) =>
      observations.some(({ inARow }) => inARow >= SETTINGS.timeouts),
    );
    const firstWithdrawal = requests.findIndex(({ withdrawn }) => withdrawn);
    expect(firstWithdrawal).toBeGreaterThanOrEqual(0);
    expect(firstVerdict === -1 || firstWithdrawal <= firstVerdict).toBe(true);
    expect(figures.withdrawn).toBe(true);
    expect(requests.at(-1)).toMatchObject({
      withdrawn: true,
      withdrawReason: expect.stringContaining("of 8"),
    });
    for (const serverId of servers) manners.set(serverId, "ok");
    await clock.advance(10_000);
    expect(requests.at(-1)?.withdrawn).toBe(false);
    expect(figures.withdrawn).toBe(false);
    for (const serverId of servers) expect(stored.get(serverId)).toBe("OK 2");
  });

  it("does not withdraw over servers that are down already, nor over refusals", async () => {
    const servers = ["s1", "s2", "s3", "s4", "s5"];
    const { clock, manners, start, put, figures } = world({ servers });
    for (const serverId of ["s1", "s2", "s3"]) {
      manners.set(serverId, "silent");
      put(serverId, { state: Server_State.DOWN });
    }
    start();
    await clock.advance(5_000);
    for (const serverId of ["s4", "s5"]) manners.set(serverId, "refused");
    await clock.advance(5_000);
    expect(figures.withdrawn).toBe(false);
  });

  it("does not hold its own pause against the servers, and tells how late its probes were", async () => {
    const { clock, manners, start, stored, pause, figures, requests } = world({ servers: ["s1", "s2"] });
    start();
    await clock.advance(2 * ROUND_MS);
    manners.set("s1", "silent");
    await clock.advance(ROUND_MS);
    stored.clear();
    // Stopped for three seconds with a probe in flight; what is due and what has failed come together.
    pause(3_000);
    await clock.advance(graceMs - 10);
    expect([...stored.values()].filter((vote) => vote.endsWith("3"))).toEqual([]);
    expect(Math.max(...figures.lagMs)).toBeGreaterThan(500);
    expect(requests.some(({ withdrawn }) => withdrawn)).toBe(true);
    await clock.advance(10_000);
    expect(stored.get("s1")).toBe("TIMEOUT 3");
  });

  it("takes no probe that was in flight during its pause for a failure, even without a grace", async () => {
    const settings = compileDetection({ graceMs: 0 });
    const { clock, manners, start, pause, probed, requests, figures } = world({ settings });
    start();
    await clock.advance(2 * ROUND_MS);
    manners.set("s1", "silent");
    for (const before = probed("s1"); probed("s1") === before; ) await clock.advance(10);
    manners.set("s1", "ok");
    pause(3_000);
    await clock.advance(3 * ROUND_MS);
    expect(figures.results).toContain("timeout");
    expect(requests).toEqual([]);
  });

  it("says everything again under a new epoch, and nothing under one that is over (I5)", async () => {
    const { clock, manners, start, stored, requests } = world();
    manners.set("s1", "refused");
    const first = start();
    await clock.advance(graceMs + 3 * ROUND_MS);
    expect(stored.get("s1")).toBe("FAILED 2");
    first.epoch.end(new Error("the lease ended"));
    await clock.advance(10);
    stored.clear();
    const before = requests.length;
    await clock.advance(10_000);
    expect(requests).toHaveLength(before);
    start();
    await clock.advance(graceMs + 3 * ROUND_MS);
    expect(stored.get("s1")).toBe("FAILED 2");
  });
});
