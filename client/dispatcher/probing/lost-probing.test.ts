import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { compileDetection } from "../../../common/detection.ts";
import { AgentService, type KeepaliveRequest } from "../../../proto/gen/convoke/v1/agent_service_pb.js";
import { Server_State, ServerSchema } from "../../../proto/gen/convoke/v1/server_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { createFakeClock, type FakeClock } from "../../../test/support/fake-clock.ts";
import { createServerTable, type ServerTable } from "../server-table.ts";
import { createLostProbing, type LostProbing } from "./lost-probing.ts";
import { NO_PROBE_METRICS } from "./probe-metrics.ts";

const SETTINGS = compileDetection();
/** The longest time between two probes. */
const ROUND_MS = SETTINGS.probeIntervalMs * 1.1;

let clock: FakeClock;
let table: ServerTable;
let probes: { serverId: string; request: KeepaliveRequest }[];
let failing: boolean;
let lost: LostProbing;
let stop: AbortController;
let over: Promise<void>;
let revision: bigint;

function put(serverId: string, more: { incarnation?: bigint; state?: Server_State } = {}) {
  const server = create(ServerSchema, {
    serverId,
    agentAddress: `${serverId}:1`,
    incarnation: 1n,
    state: Server_State.UP,
    ...more,
  });
  table.apply({ $typeName: "convoke.v1.ServerEvent", type: EventType.PUT, server }, ++revision);
  return server;
}

beforeEach(() => {
  clock = createFakeClock();
  probes = [];
  failing = false;
  revision = 0n;
  table = createServerTable({
    clock,
    connectAgent(address) {
      const serverId = address.split(":")[0] ?? "";
      const transport = createRouterTransport(({ service }) => {
        service(AgentService, {
          keepalive(request) {
            probes.push({ serverId, request });
            if (failing) throw new ConnectError("no connection", Code.Unavailable);
            return { serverId };
          },
        });
      });
      const client = createClient(AgentService, transport);
      // Without a deadline: that would be on the real clock.
      const keepalive = (request: Parameters<typeof client.keepalive>[0]) => client.keepalive(request);
      return { ...client, keepalive, close() {}, [Symbol.dispose]() {} };
    },
  });
  lost = createLostProbing({
    dispatcherId: "d1",
    table,
    checkPort: async () => "refused",
    metrics: NO_PROBE_METRICS,
    clock,
    logger: pino({ level: "silent" }),
  });
  stop = new AbortController();
  over = lost.run(stop.signal);
});

afterEach(async () => {
  stop.abort();
  await over;
  expect(clock.pending).toBe(0);
});

const probed = (serverId: string) => probes.filter((one) => one.serverId === serverId).length;

describe("an observer that has lost the control plane", () => {
  it("says so once an interval to those that it observed last, with what it saw last", async () => {
    put("s1", { incarnation: 7n, state: Server_State.SUSPECT });
    put("s2");
    put("s3");
    lost.begin(["s1", "s2"], SETTINGS);
    await clock.advance(10 * ROUND_MS);
    for (const serverId of ["s1", "s2"]) {
      expect(probed(serverId)).toBeGreaterThanOrEqual(9);
      expect(probed(serverId)).toBeLessThanOrEqual(13);
    }
    expect(probed("s3")).toBe(0);
    for (const { serverId, request } of probes)
      expect(request).toMatchObject({
        dispatcherId: "d1",
        controlPlaneLost: true,
        ...(serverId === "s1" ? { incarnation: 7n, serverState: Server_State.SUSPECT } : {}),
      });
  });

  it("says what it still learns: that a server is down, or gone (I2)", async () => {
    put("s1");
    const gone = put("s2");
    lost.begin(["s1", "s2"], SETTINGS);
    await clock.advance(2 * ROUND_MS);
    put("s1", { state: Server_State.DOWN });
    table.apply({ $typeName: "convoke.v1.ServerEvent", type: EventType.DELETE, server: gone }, ++revision);
    probes.length = 0;
    await clock.advance(3 * ROUND_MS);
    expect(probed("s2")).toBe(0);
    expect(new Set(probes.map(({ request }) => request.serverState))).toEqual(new Set([Server_State.DOWN]));
  });

  it("asks no sooner those that fail, and goes on asking", async () => {
    put("s1");
    failing = true;
    lost.begin(["s1"], SETTINGS);
    await clock.advance(10 * ROUND_MS);
    expect(probed("s1")).toBeGreaterThanOrEqual(9);
    expect(probed("s1")).toBeLessThanOrEqual(13);
  });

  it("is quiet before that begins and after it has ended, and may begin again", async () => {
    put("s1");
    await clock.advance(5 * ROUND_MS);
    expect(probes).toEqual([]);
    lost.begin(["s1"], SETTINGS);
    await clock.advance(2 * ROUND_MS);
    lost.end();
    expect(clock.pending).toBe(0);
    const before = probes.length;
    await clock.advance(5 * ROUND_MS);
    expect(probes).toHaveLength(before);
    lost.begin(["s1"], SETTINGS);
    await clock.advance(2 * ROUND_MS);
    expect(probes.length).toBeGreaterThan(before);
  });
});
