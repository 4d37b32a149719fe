import { describe, expect, it } from "vitest";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause as Cause } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason as MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { soon } from "./patience.ts";
import { ids, startWorld } from "./world.ts";

describe("a conference server that is killed", () => {
  it("loses nobody: its conferences, and only they, are active elsewhere under higher epochs (I1, I2, I3, I8)", async () => {
    await using world = await startWorld({ agents: { s1: [], s2: [], s3: [] } });
    const { client, table, servers } = world;
    const all = ids("c", 60);
    await world.place(all);
    const before = new Map(table.rows);
    const lost = world.on("s1");
    expect(lost.length).toBeGreaterThan(0);
    using participant = await world.join(lost[0] ?? "");
    const seen = table.told.length;
    const agent = world.agentOf("s1");
    await agent.end("SIGKILL");

    const away = () => lost.filter((id) => (table.rows.get(id)?.epoch ?? 0n) > (before.get(id)?.epoch ?? 0n));
    await soon(away).toEqual(lost);
    expect(participant.cut).toBeDefined();
    const events = await table.since(seen);
    for (const [id, row] of before) {
      const own = events.filter(({ dispatch }) => dispatch?.conferenceId === id);
      if (row.serverId !== "s1") {
        expect(own, `${id} was not on the dead server`).toEqual([]);
        continue;
      }
      // Once lost, once moved: none twice.
      expect(own.map(({ cause }) => cause)).toEqual([Cause.SERVER_LOST, Cause.MOVED]);
      expect(own[1]?.dispatch).toMatchObject({
        previousServerId: "s1",
        moveReason: MoveReason.SERVER_DOWN,
        serverId: expect.stringMatching(/^s[23]$/),
      });
    }
    const { conferences } = await client.conferences.listConferences({ pageSize: 1000 });
    expect(conferences.filter(({ state }) => state !== Conference_State.ACTIVE)).toEqual([]);
    expect(conferences.map(({ conferenceId }) => conferenceId)).toEqual(all);
    // One verdict for one death, and none for the living.
    const states = await servers.statesSince(0, "s1");
    expect(states.filter((state) => state === "s1 DOWN")).toHaveLength(1);
    expect((await servers.statesSince(0)).filter((state) => /^s[23] (?!UP)/.test(state))).toEqual([]);

    // What the survivors host is what the table says, address by address.
    for (const serverId of ["s2", "s3"]) {
      const hosted = await world.hosted(serverId);
      expect(hosted.map(({ conferenceId }) => conferenceId)).toEqual(world.on(serverId));
      for (const { conferenceId, address, dispatchEpoch } of hosted)
        expect(world.rowOf(conferenceId)).toMatchObject({ address, epoch: dispatchEpoch });
    }
    using ann = await world.join(lost[0] ?? "");
    using bob = await world.join(lost[0] ?? "");
    ann.say("we are back");
    await soon(() => bob.heard).toEqual(["we are back"]);
  });
});
