import { describe, expect, it } from "vitest";
import { Server_Health_Cause as Cause, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { soon } from "./patience.ts";
import { inWords } from "./table-history.ts";
import { ids, startWorld, type World } from "./world.ts";

const CONFERENCE_GONE = 4001;

/** A conference server of its own process, and its agent. Gives the agent's arguments. */
async function startWithRoomServer(world: World, serverId: string): Promise<string[]> {
  const ports = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
  const rooms = world.startAlone(`rooms-of-${serverId}`, ["room-server", ...ports]);
  const { control } = await rooms.logged("room server serving");
  const args = ["--room-server", String(control)];
  await world.startAgent(serverId, args);
  return args;
}

describe("an agent that ends while its conference server lives", () => {
  it("keeps everything when it said that it would be back; killed, loses what it had, and nobody hears the old rooms (I1, I2, I8)", {
    timeout: 120_000,
  }, async () => {
    // Two of the four are to be found dead at the same time.
    const serve = ["--brake-fraction", "60%"];
    await using stack = new AsyncDisposableStack();
    const world = stack.use(await startWorld({ serve, agents: { s3: [], s4: [] } }));
    const { table, servers } = world;
    const [args] = await Promise.all([startWithRoomServer(world, "s1"), startWithRoomServer(world, "s2")]);
    await world.place(ids("c", 40));
    const [first, second] = [world.on("s1"), world.on("s2")];
    expect(Math.min(first.length, second.length)).toBeGreaterThan(0);
    const join = async (id: string | undefined) => stack.use(await world.join(id ?? ""));
    const ann = await join(first[0]);
    const bob = await join(first[0]);
    const cem = await join(second[0]);
    const seen = table.told.length;
    const { incarnation } = await world.server("s1");
    const hosted = (await world.hosted("s1")).map(({ conferenceId, address }) => ({ conferenceId, address }));

    // It says that it will be back, is missed, and is back.
    expect(await world.agentOf("s1").end("SIGINT")).toBe(0);
    await soon(() => servers.servers.get("s1")).toMatchObject({
      state: Server_State.SUSPECT,
      health: { cause: Cause.RESTARTING },
    });
    ann.say("nobody is at the wheel");
    await soon(() => bob.heard).toEqual(["nobody is at the wheel"]);
    await world.replaceAgent("s1", args);
    await soon(() => servers.stateOf("s1")).toBe(Server_State.UP);
    expect((await world.server("s1")).incarnation).toBe(incarnation);
    expect(
      (await world.hosted("s1")).map(({ conferenceId, address }) => ({ conferenceId, address })),
    ).toEqual(hosted);
    expect((await table.since(seen)).map(inWords)).toEqual([]);
    expect([ann, bob, cem].filter(({ isConnected, cut }) => !isConnected || cut)).toEqual([]);

    // Both agents are killed, and one comes back while its rooms are still there.
    const isolationMs = await world.isolationMs();
    const killedMs = performance.now();
    await Promise.all(["s1", "s2"].map((id) => world.agentOf(id).end("SIGKILL")));
    const lost = [...first, ...second].sort();
    const isMoved = (id: string) => /^s[34]$/.test(table.rows.get(id)?.serverId ?? "");
    await soon(() => lost.filter((id) => !isMoved(id))).toEqual([]);
    await world.replaceAgent("s1", args);
    await soon(() => [ann, bob, cem].map(({ cut }) => cut?.code)).toEqual(Array(3).fill(CONFERENCE_GONE));
    // Half as long again is for a busy machine's timers.
    for (const { cut } of [ann, bob, cem])
      expect((cut?.atMs ?? 0) - killedMs).toBeLessThan(1.5 * isolationMs);
    await soon(async () => await world.hosted("s1")).toEqual([]);
    const moved = (await table.since(seen)).map(({ dispatch }) => dispatch?.conferenceId ?? "");
    // Each was lost and moved, once, and no other.
    expect(moved.toSorted()).toEqual([...lost, ...lost].sort());
    expect(lost.filter((id) => !isMoved(id))).toEqual([]);
  });
});
