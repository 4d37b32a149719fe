import { describe, expect, it } from "vitest";
import { Server_Health_Cause as Cause, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { faultLasts, soon } from "./patience.ts";
import { inWords } from "./table-history.ts";
import { ids, startWorld } from "./world.ts";

const SERVERS = ids("s", 8);
/** Half of them; the brake allows a third. */
const FROZEN = SERVERS.slice(0, 4);

/**
 * Slower than the default, so that servers can be frozen long enough for a verdict, looked at with commands, and woken
 * before they count themselves cut off.
 */
const SETTINGS = ["--probe-interval", "2s", "--probe-timeout", "1s", "--timeouts", "6"];

describe("half of the servers frozen at once", () => {
  it("are held by the brake: status says so, nothing moves, and all go on; released, they are moved (I1, I3, I8)", {
    timeout: 150_000,
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const agents = Object.fromEntries(SERVERS.map((id) => [id, []]));
    const world = stack.use(await startWorld({ serve: SETTINGS, agents }));
    const { client, table, servers } = world;
    await world.place(ids("c", 64));
    const before = new Map(table.rows);
    const participants = await Promise.all([...before.keys()].map((id) => world.join(id)));
    for (const participant of participants) stack.use(participant);
    const seen = { table: table.told.length, servers: servers.told.length };
    const brake = async () => (await client.servers.getDetection({})).brake;
    const causes = () => FROZEN.map((id) => servers.servers.get(id)?.health?.cause);
    const states = () => SERVERS.map(servers.stateOf);
    const heldBack = FROZEN.map(() => Cause.HELD_BY_BRAKE);

    for (const id of FROZEN) world.agentOf(id).freeze();
    await soon(causes).toEqual(heldBack);
    expect(await brake()).toMatchObject({
      engaged: true,
      failingServers: 4,
      servers: 8,
      allowedServers: 2,
      heldServerIds: FROZEN,
    });
    const [listed, told] = await Promise.all([
      world.convoke("get", "servers"),
      world.convoke("get", "brake"),
    ]);
    for (const id of FROZEN) expect(listed.stdout).toMatch(new RegExp(`^${id} +SUSPECT +held-by-brake`, "m"));
    expect(`${listed.stdout}${listed.stderr}`).toContain("4 of 8 servers fail and 2 may");
    expect(told).toMatchObject({ code: 0, stdout: expect.stringContaining(FROZEN.join(",")) });
    for (const id of FROZEN) world.agentOf(id).resume();
    await soon(states).toEqual(SERVERS.map(() => Server_State.UP));
    expect(await brake()).toMatchObject({ engaged: false, heldServerIds: [] });
    expect((await table.since(seen.table)).map(inWords)).toEqual([]);
    expect((await servers.statesSince(seen.servers)).filter((state) => state.endsWith("DOWN"))).toEqual([]);
    expect(participants.filter(({ isConnected, cut }) => !isConnected || cut)).toEqual([]);

    for (const id of FROZEN) world.agentOf(id).freeze();
    await soon(causes).toEqual(heldBack);
    await faultLasts(500);
    expect((await table.since(seen.table)).map(inWords)).toEqual([]);
    expect(await world.convoke("release-brake", "--for", "1m")).toMatchObject({ code: 0 });
    const lost = [...before.values()].filter(({ serverId }) => FROZEN.includes(serverId));
    const unmoved = () =>
      lost.filter(({ conferenceId }) =>
        FROZEN.includes(table.rows.get(conferenceId)?.serverId ?? FROZEN[0] ?? ""),
      );
    await soon(unmoved).toEqual([]);
    const moved = (await table.since(seen.table)).map(({ dispatch }) => dispatch?.conferenceId ?? "");
    expect([...new Set(moved)].sort()).toEqual(lost.map(({ conferenceId }) => conferenceId).sort());
    expect(moved).toHaveLength(2 * lost.length);
  });
});
