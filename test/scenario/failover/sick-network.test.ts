import { describe, expect, it } from "vitest";
import { Observation_Verdict as Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { faultLasts, soon } from "./patience.ts";
import { freePort, type SourceProxy, startSourceProxy } from "./source-proxy.ts";
import { inWords } from "./table-history.ts";
import { ids, startWorld, type World } from "./world.ts";

const SERVERS = ["s1", "s2", "s3"];
const DISPATCHERS = ["d1", "d2", "d3"];

/** Starts servers whose agents are reached through proxies. */
async function startBehindProxies(world: World, stack: AsyncDisposableStack) {
  const proxies = new Map<string, SourceProxy>();
  const start = async (serverId: string) => {
    const listen = `127.0.0.1:${await freePort()}`;
    const proxy = stack.use(await startSourceProxy(listen));
    proxies.set(serverId, proxy);
    await world.startAgent(serverId, ["--listen", listen, "--advertise", proxy.address]);
  };
  await Promise.all(SERVERS.map(start));
  return proxies;
}

describe("a sick network", () => {
  it("between observers and servers moves nothing, nor does a restart of all dispatchers (I3, I8)", {
    timeout: 120_000,
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const world = stack.use(await startWorld({ dispatchers: [] }));
    const { client, table, servers } = world;
    const proxies = await startBehindProxies(world, stack);
    let dispatchers = await world.startDispatchers(...DISPATCHERS);
    await world.place(ids("c", 30));
    const participants = await Promise.all([...table.rows.keys()].map((id) => world.join(id)));
    for (const participant of participants) stack.use(participant);
    const seen = { table: table.told.length, servers: servers.told.length };
    const votes = async () => (await client.servers.listObservations({})).observations;

    // One observer of three is cut off from one server.
    const [alone] = dispatchers;
    await proxies.get("s1")?.cutOff(alone?.pid ?? 0);
    const timeouts = (await client.servers.getDetection({})).detection?.timeouts ?? 0;
    const isCalledFailed = async () =>
      (await votes()).some(
        ({ serverId, dispatcherId, verdict, inARow, counts }) =>
          serverId === "s1" &&
          dispatcherId === "d1" &&
          verdict === Verdict.TIMEOUT &&
          inARow >= timeouts &&
          counts,
      );
    await soon(isCalledFailed).toBe(true);
    // Longer than the verdict would take, if one vote were enough.
    await faultLasts(1_000);
    expect(await servers.statesSince(seen.servers)).toEqual([]);
    proxies.get("s1")?.heal();
    await soon(async () => (await votes()).filter(({ verdict }) => verdict !== Verdict.OK)).toEqual([]);

    // All observers are cut off from all servers, which still reach the control plane.
    const all = dispatchers.map(({ pid }) => pid);
    await Promise.all([...proxies.values()].map((proxy) => proxy.cutOff(...all)));
    await faultLasts(5_000);
    for (const proxy of proxies.values()) proxy.heal();
    await soon(() => SERVERS.map(servers.stateOf)).toEqual(SERVERS.map(() => Server_State.UP));
    await soon(async () => (await votes()).filter(({ verdict }) => verdict !== Verdict.OK)).toEqual([]);

    // All dispatchers die, and are there again.
    await Promise.all(dispatchers.map((dispatcher) => dispatcher.end("SIGKILL")));
    dispatchers = await world.startDispatchers(...DISPATCHERS);
    await world.place(["placed-by-the-new-ones"]);

    const events = await table.since(seen.table);
    expect(events.map(inWords)).toEqual([expect.stringMatching(/^placed-by-the-new-ones PLACED on s[123]$/)]);
    expect((await servers.statesSince(seen.servers)).filter((state) => state.endsWith("DOWN"))).toEqual([]);
    expect(participants.filter(({ isConnected, cut }) => !isConnected || cut)).toEqual([]);

    // They see what is really dead, so nothing above was quiet because nobody looked.
    const lost = world.on("s1");
    await world.agentOf("s1").end("SIGKILL");
    await soon(() => lost.filter((id) => (table.rows.get(id)?.serverId ?? "s1") === "s1")).toEqual([]);
    const moved = (await table.since(seen.table + 1)).map(({ dispatch }) => dispatch?.conferenceId ?? "");
    expect([...new Set(moved)].sort()).toEqual(lost);
  });
});
