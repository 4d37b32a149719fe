import { describe, expect, it } from "vitest";
import { timestampMs } from "../../../common/time.ts";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause as Cause } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Observation_Verdict as Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { soon } from "./patience.ts";
import { ids, startWorld } from "./world.ts";

const FLAPS = 10;
/** Quick, so that ten flaps take seconds. */
const SETTINGS = [
  ...["--probe-interval", "200ms", "--probe-timeout", "300ms", "--probe-retry", "50ms", "--timeouts", "2"],
  // Busy machines are slow at times; only the flapping one is to be found failed.
  ...["--settle", "100ms", "--detection-grace", "500ms"],
];

describe("a server that flaps ten times", () => {
  it("moves its conferences once for each verdict, waits longer each time, and loses nobody (I1, I3)", {
    timeout: 150_000,
  }, async () => {
    await using world = await startWorld({ serve: SETTINGS, agents: { s1: [], s2: [], s3: [] } });
    const { client, table, servers } = world;
    const all = ids("c", 30);
    await world.place(all);
    const agent = world.agentOf("s1");
    const verdicts = async () =>
      (await client.servers.listObservations({ serverId: "s1" })).observations
        .filter(({ counts }) => counts)
        .map(({ verdict }) => verdict);
    const majority = async (of: (verdict: Verdict) => boolean) => (await verdicts()).filter(of).length >= 2;
    const isUp = () => servers.stateOf("s1") === Server_State.UP;
    const holdMs = () => {
      const { downTime, holdUntil } = servers.servers.get("s1")?.health ?? {};
      return downTime && holdUntil ? timestampMs(holdUntil) - timestampMs(downTime) : 0;
    };

    const holds: number[] = [];
    for (let flap = 0; flap < FLAPS; flap++) {
      // Near the end it has been UP again, and fails once more.
      if (flap === FLAPS - 2) {
        await soon(isUp).toBe(true);
        // Something to lose again.
        await world.place(ids("late", 9));
      }
      const wasUp = isUp();
      agent.freeze();
      await soon(() => majority((verdict) => verdict === Verdict.TIMEOUT)).toBe(true);
      if (wasUp) {
        await soon(() => servers.stateOf("s1")).toBe(Server_State.DOWN);
        holds.push(holdMs());
      }
      agent.resume();
      await soon(() => majority((verdict) => verdict === Verdict.OK)).toBe(true);
    }

    expect(holds).toEqual([10_000, 60_000]);
    expect((await world.server("s1")).health).toMatchObject({ failures: 2 });
    const states = await servers.statesSince(0, "s1");
    expect(states.filter((state) => state === "s1 DOWN")).toHaveLength(2);
    const everything = [...all, ...ids("late", 9)];
    await soon(() => everything.filter((id) => (table.rows.get(id)?.serverId ?? "s1") === "s1")).toEqual([]);
    const events = await table.since(0);
    const moves = new Map<string, number>();
    for (const { cause, dispatch } of events) {
      const id = dispatch?.conferenceId ?? "";
      if (cause === Cause.MOVED) moves.set(id, (moves.get(id) ?? 0) + 1);
    }
    // No more than once for each verdict, ten flaps or not.
    expect(Math.max(...moves.values())).toBeLessThanOrEqual(2);
    const { conferences } = await client.conferences.listConferences({ pageSize: 1000 });
    expect(conferences.map(({ conferenceId }) => conferenceId)).toEqual(everything.toSorted());
    expect(conferences.filter(({ state }) => state !== Conference_State.ACTIVE)).toEqual([]);
    expect(await world.hosted("s1")).toEqual([]);
  });
});
