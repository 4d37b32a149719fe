import { describe, expect, it } from "vitest";
import { timestampFromMs, timestampMs } from "../../../common/time.ts";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause as Cause } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { soon } from "./patience.ts";
import { startWorld } from "./world.ts";

const CONFERENCE_GONE = 4001;
const GRACE_MS = 1_000;
/** Enough for a conference to be placed and joined before it ends, on a busy machine too. */
const LENGTH_MS = 8_000;

describe("a conference whose validity passes", () => {
  it("ends, is told to its participants, and one that was extended goes on; also while the control plane is away (I3)", {
    timeout: 120_000,
  }, async () => {
    // It may go on however long nobody is heard, and must end what is over all the same.
    const agents = { s1: ["--isolation", "keep"] };
    const serve = ["--grace", `${GRACE_MS}ms`];
    await using world = await startWorld({ serve, dispatchers: ["d1"], agents });
    const { client, table } = world;
    const stateOf = async (conferenceId: string) =>
      (await client.conferences.getConference({ conferenceId })).conference?.state;
    await world.place(["short", "extended"], { endInMs: LENGTH_MS });
    using ann = await world.join("short");
    using bob = await world.join("extended");
    const validUntilMs = () => {
      const { validUntil } = world.rowOf("extended");
      return validUntil ? timestampMs(validUntil) : 0;
    };
    const untilMs = validUntilMs();
    const endTime = timestampFromMs(Date.now() + 3_600_000);
    await client.conferences.updateConference({
      conference: { conferenceId: "extended", endTime },
      updateMask: { paths: ["end_time"] },
    });

    await soon(() => ann.cut?.code).toBe(CONFERENCE_GONE);
    expect(Date.now()).toBeGreaterThanOrEqual(untilMs);
    await soon(() => stateOf("short")).toBe(Conference_State.ENDED);
    const events = await table.since(0);
    expect(events.filter(({ dispatch }) => dispatch?.conferenceId === "short").at(-1)).toMatchObject({
      type: EventType.DELETE,
      cause: Cause.ENDED,
    });
    expect((await world.hosted("s1")).map(({ conferenceId }) => conferenceId)).toEqual(["extended"]);
    expect(validUntilMs()).toBe(timestampMs(endTime) + GRACE_MS);
    expect(bob.isConnected).toBe(true);

    await world.place(["orphan"], { endInMs: LENGTH_MS });
    using cem = await world.join("orphan");
    await world.controlPlane.end("SIGKILL");
    await soon(() => cem.cut?.code).toBe(CONFERENCE_GONE);
    await world.restartControlPlane();
    await soon(() => stateOf("orphan").catch(() => undefined)).toBe(Conference_State.ENDED);
    expect(await stateOf("extended")).toBe(Conference_State.ACTIVE);
    expect(bob.isConnected).toBe(true);
  });
});
