import { describe, expect, it } from "vitest";
import { timestampMs } from "../../common/time.ts";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { type Clients, openControlPlane } from "../support/control-plane.ts";
import {
  ANSWERS,
  pass,
  REFUSED,
  REFUSED_ONCE,
  registerDispatchers,
  registerServers,
  report,
  SILENT,
} from "../support/observing.ts";

const GRACE_MS = 2_000;
const SETTLE_MS = 150;
/** Any pause of the judge, and the pace at which it rewrites what only changes its cause. */
const SOON_MS = 1_100;

const read = async (clients: Clients, serverId: string) => {
  const { server } = await clients.servers.getServer({ serverId });
  if (!server?.health) throw new Error(`no health of ${serverId}`);
  return { server, health: server.health };
};
const stateOf = async (clients: Clients, serverId: string) => {
  const { server, health } = await read(clients, serverId);
  return `${Server_State[server.state]} ${Server_Health_Cause[health.cause]}`;
};

describe("verdicts on conference servers", () => {
  it("are DOWN by two explicit refusals of a majority, and say whose", async () => {
    await using plane = await openControlPlane();
    const [d1, d2] = await registerDispatchers(plane, 3);
    if (!d1 || !d2) throw new Error("no dispatchers");
    const servers = await registerServers(plane, 8);
    const dead = servers.slice(0, 1);
    expect(await stateOf(plane, "s01")).toBe("UP REGISTERED");
    await pass(plane, GRACE_MS);
    await report(plane, d1, dead, REFUSED);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("UP REGISTERED");
    await report(plane, d2, dead, REFUSED_ONCE);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await report(plane, d2, dead, REFUSED);
    await pass(plane, SETTLE_MS - 30);
    expect(await stateOf(plane, "s01")).toBe("SUSPECT REFUSALS");
    await pass(plane, 60);
    expect(await stateOf(plane, "s01")).toBe("DOWN REFUSALS");
    const { health } = await read(plane, "s01");
    expect(health.message).toBe(
      "2 of 3 observers call it failed: d1 connection refused, d2 connection refused",
    );
    expect(health.failures).toBe(1);
    expect(timestampMs(health.holdUntil ?? health.changeTime ?? (undefined as never))).toBe(
      timestampMs(health.downTime ?? (undefined as never)) + 10_000,
    );
  });

  it("hold more than the brake allows", async () => {
    await using plane = await openControlPlane();
    const dispatchers = await registerDispatchers(plane, 3);
    const servers = await registerServers(plane, 20);
    await pass(plane, GRACE_MS);
    for (const dispatcher of dispatchers) await report(plane, dispatcher, servers.slice(0, 10), SILENT);
    await pass(plane, 120_000, 500);
    const { brake } = await plane.servers.getDetection({});
    expect(brake).toMatchObject({ engaged: true, failingServers: 10, servers: 20, allowedServers: 6 });
    expect(brake?.heldServerIds).toHaveLength(10);
    expect(await stateOf(plane, "s05")).toBe("SUSPECT HELD_BY_BRAKE");
    expect((await read(plane, "s05")).health.message).toBe(
      "held by the brake: 10 of 20 servers fail, 6 may; release it with `convoke release-brake` if they are really dead",
    );
    for (const dispatcher of dispatchers) await report(plane, dispatcher, servers.slice(0, 10), ANSWERS);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s05")).toBe("UP ANSWERS");
  });
});
