import { describe, expect, it } from "vitest";
import { timestampMs } from "../../../common/time.ts";
import { DispatchEvent_Cause as Cause } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { soon } from "./patience.ts";
import { ids, startWorld } from "./world.ts";

/** The close code of a room whose conference is hosted here no more. */
const CONFERENCE_GONE = 4001;

describe("a conference server that is frozen, moved away from, and wakes", () => {
  it("serves nothing any more: participants are cut, hear nothing, and it is UP only after its hold-off (I2)", async () => {
    await using world = await startWorld({ agents: { s1: [], s2: [], s3: [] } });
    const { table, servers } = world;
    await world.place(ids("c", 30));
    const lost = world.on("s1");
    const [conference = ""] = lost;
    using ann = await world.join(conference);
    using bob = await world.join(conference);
    ann.say("before");
    await soon(() => bob.heard).toEqual(["before"]);
    const isolationMs = await world.isolationMs();
    const seen = table.told.length;
    const frozenMs = performance.now();
    world.agentOf("s1").freeze();
    // It lies in the frozen server's socket, to be relayed when it wakes.
    ann.say("into the ice");

    await soon(() => lost.filter((id) => table.rows.get(id)?.serverId === "s1")).toEqual([]);
    await soon(() => lost.filter((id) => !table.rows.has(id))).toEqual([]);
    using cem = await world.join(conference);
    using dan = await world.join(conference);
    await soon(() => performance.now() - frozenMs).toBeGreaterThan(isolationMs);
    const wokenMs = performance.now();
    world.agentOf("s1").resume();
    cem.say("after");
    await soon(() => dan.heard).toEqual(["after"]);

    await soon(() => [ann, bob].map(({ cut }) => cut?.code)).toEqual([CONFERENCE_GONE, CONFERENCE_GONE]);
    for (const { cut } of [ann, bob]) expect((cut?.atMs ?? 0) - wokenMs).toBeLessThan(isolationMs);
    expect(bob.heard).toEqual(["before"]);
    await soon(async () => await world.hosted("s1")).toEqual([]);

    const { health } = await world.server("s1");
    expect(health?.failures).toBe(1);
    const holdMs = health?.holdUntil ? timestampMs(health.holdUntil) : 0;
    await soon(() => servers.stateOf("s1")).toBe(Server_State.UP);
    const up = servers.servers.get("s1")?.health;
    expect(up?.changeTime ? timestampMs(up.changeTime) : 0).toBeGreaterThanOrEqual(holdMs);
    const events = await table.since(seen);
    // Moved once, and nothing went back.
    expect(events.filter(({ cause }) => cause === Cause.MOVED)).toHaveLength(lost.length);
    expect(events.filter(({ cause }) => cause === Cause.RETURNED)).toEqual([]);
    expect(await world.hosted("s1")).toEqual([]);
    expect(world.on("s1")).toEqual([]);
  });

  it("before it has counted itself cut off is told so, and cuts its participants within the isolation time (I2)", async () => {
    await using world = await startWorld({ agents: { s1: [], s2: [] } });
    const { table } = world;
    await world.place(ids("c", 12));
    const lost = world.on("s1");
    using ann = await world.join(lost[0] ?? "");
    const isolationMs = await world.isolationMs();
    const frozenMs = performance.now();
    world.agentOf("s1").freeze();
    await soon(() => lost.filter((id) => (table.rows.get(id)?.serverId ?? "s1") === "s1")).toEqual([]);
    world.agentOf("s1").resume();
    const wokenMs = performance.now();
    await soon(() => ann.cut?.code).toBe(CONFERENCE_GONE);
    expect((ann.cut?.atMs ?? 0) - Math.max(wokenMs, frozenMs)).toBeLessThan(isolationMs);
    await soon(async () => await world.hosted("s1")).toEqual([]);
  });

  it("and may keep its conferences stops what was moved, and goes on with what was not (I1, I2)", async () => {
    const keep = ["--isolation", "keep"];
    await using world = await startWorld({ agents: { s1: [...keep, "--label", "zone=a"], s2: keep } });
    const { table, servers } = world;
    await world.place(ids("free", 12));
    // No other server has the label, so this one has nowhere to go.
    await world.place(["bound"], { requiredLabels: { zone: "a" } });
    const lost = world.on("s1").filter((id) => id !== "bound");
    expect(lost.length).toBeGreaterThan(0);
    const bound = world.rowOf("bound");
    using ann = await world.join(lost[0] ?? "");
    using bob = await world.join("bound");
    const seen = table.told.length;
    world.agentOf("s1").freeze();
    await soon(() => lost.filter((id) => (table.rows.get(id)?.serverId ?? "s1") === "s1")).toEqual([]);
    world.agentOf("s1").resume();

    await soon(() => ann.cut?.code).toBe(CONFERENCE_GONE);
    await soon(() => servers.stateOf("s1")).toBe(Server_State.UP);
    await soon(() => table.rows.get("bound")).toMatchObject({ address: bound.address, serverId: "s1" });
    expect(bob.isConnected).toBe(true);
    await soon(async () => (await world.hosted("s1")).map(({ conferenceId }) => conferenceId)).toEqual([
      "bound",
    ]);
    // Whoever tried to place it elsewhere meanwhile gives it a new epoch where it was.
    const causes = (await table.since(seen))
      .filter(({ dispatch }) => dispatch?.conferenceId === "bound")
      .map(({ cause }) => cause);
    expect(causes[0]).toBe(Cause.SERVER_LOST);
    expect([[Cause.RETURNED], [Cause.MOVED]]).toContainEqual(causes.slice(1));
    using cem = await world.join("bound");
    cem.say("still here?");
    await soon(() => bob.heard).toEqual(["still here?"]);
  });
});
