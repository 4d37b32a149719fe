import { describe, expect, it } from "vitest";
import { DispatchEvent_Cause as Cause } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason as MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { soon } from "./patience.ts";
import { ids, startWorld } from "./world.ts";

const CONFERENCE_GONE = 4001;

describe("a drain", () => {
  it("of a server, of two together, and by SIGTERM leaves no conference without a valid row at any moment (I1, I3)", {
    timeout: 150_000,
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const world = stack.use(await startWorld({ agents: { s1: ["--exit-when-drained"] } }));
    const { table } = world;
    const all = ids("c", 200);
    await world.place(all);
    expect(world.on("s1")).toEqual(all);
    await Promise.all(["s2", "s3"].map((id) => world.startAgent(id, ["--exit-when-drained"])));
    const oldRooms = await Promise.all(all.slice(0, 20).map((id) => world.join(id)));
    for (const participant of oldRooms) stack.use(participant);
    const seen = table.told.length;

    // All 200 of the one server.
    const s1Exit = world.agentOf("s1").endsByItself();
    const drained = await world.convoke("drain", "s1");
    expect(drained, drained.stderr).toMatchObject({ code: 0 });
    expect((await world.server("s1")).drain).toMatchObject({ done: true, conferenceCount: 200 });
    await table.caughtUp();
    expect(world.on("s1")).toEqual([]);
    expect(await s1Exit).toBe(0);
    const movedAt = new Map(
      table.told.slice(seen).map(({ event, atMs }) => [event.dispatch?.conferenceId ?? "", atMs]),
    );
    await soon(() => oldRooms.map(({ cut }) => cut?.code)).toEqual(oldRooms.map(() => CONFERENCE_GONE));
    // Whoever is cut from the old room can already know the new one.
    oldRooms.forEach((participant, index) => {
      expect(participant.cut?.atMs ?? 0).toBeGreaterThan(movedAt.get(all[index] ?? "") ?? Number.NaN);
    });

    // Two at once, onto the one that is left and one that is new.
    await world.startAgent("s4");
    const [s2, s3] = [world.on("s2"), world.on("s3")];
    expect(Math.min(s2.length, s3.length)).toBeGreaterThan(50);
    const exits = ["s2", "s3"].map((id) => world.agentOf(id).endsByItself());
    const both = await world.convoke("drain", "s2", "s3");
    expect(both, both.stderr).toMatchObject({ code: 0 });
    expect(await Promise.all(exits)).toEqual([0, 0]);
    await table.caughtUp();
    expect(world.on("s4")).toEqual(all);

    // SIGTERM asks an agent to leave in peace.
    await world.startAgent("s5");
    expect(await world.agentOf("s4").end("SIGTERM")).toBe(0);
    await table.caughtUp();
    expect(world.on("s5")).toEqual(all);

    const events = await table.since(seen);
    expect(table.interruptions).toEqual([]);
    expect(new Set(events.map(({ cause }) => cause))).toEqual(new Set([Cause.MOVED]));
    expect(new Set(events.map(({ dispatch }) => dispatch?.moveReason))).toEqual(new Set([MoveReason.DRAIN]));
    // Each of the three drains moved each conference once.
    expect(events).toHaveLength(3 * all.length);
    expect((await world.hosted("s5")).map(({ conferenceId }) => conferenceId)).toEqual(all);

    // Three drained servers whose agents have ended are no sick network: the next death is believed.
    await world.startAgent("s6");
    await world.agentOf("s5").end("SIGKILL");
    await soon(() => world.on("s6")).toEqual(all);
    expect((await world.client.servers.getDetection({})).brake).toMatchObject({ heldServerIds: [] });
  });
});
