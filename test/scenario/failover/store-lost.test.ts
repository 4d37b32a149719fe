import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause as Cause } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { type EtcdMember, startEtcd } from "../../support/etcd.ts";
import { faultLasts, soon } from "./patience.ts";
import { ids, startWorld } from "./world.ts";

const LOSSES = [
  {
    loss: "killed",
    lose: (member: EtcdMember) => member.kill(),
    mend: (member: EtcdMember) => member.start(),
  },
  {
    loss: "frozen",
    lose: async (member: EtcdMember) => member.pause(),
    mend: async (member: EtcdMember) => member.resume(),
  },
] as const;

describe("a store that is lost during a failover", () => {
  it.each(LOSSES)(
    "$loss, lets nothing be decided while it is away, and loses nobody afterwards (I1, I3, I8)",
    {
      timeout: 120_000,
    },
    async ({ lose, mend }) => {
      await using etcd = await startEtcd();
      const [member] = etcd.members;
      if (!member) throw new Error("no member");
      await using world = await startWorld({
        store: `etcd://${member.endpoint}`,
        agents: { s1: [], s2: [], s3: [] },
      });
      const { client, table, servers } = world;
      const all = ids("c", 60);
      await world.place(all);
      const lost = world.on("s1");
      const others = all.filter((id) => !lost.includes(id));
      using participant = await world.join(others[0] ?? "");
      const seen = { table: table.told.length, servers: servers.told.length };
      await Promise.all([world.agentOf("s1").end("SIGKILL"), lose(member)]);

      const answerToAWrite = () =>
        client.conferences
          .cancelConference({ conferenceId: "nobody" }, { timeoutMs: 2_000 })
          .then(() => "answered")
          .catch((err: unknown) => Code[ConnectError.from(err).code]);
      await soon(answerToAWrite).toBe("Unavailable");
      // Longer than a verdict by timeouts takes, while everybody can see that the server is dead.
      await faultLasts(4_000);
      expect(servers.told.length).toBe(seen.servers);
      expect(table.told.length).toBe(seen.table);

      await mend(member);
      await soon(() => lost.filter((id) => (table.rows.get(id)?.serverId ?? "s1") === "s1")).toEqual([]);
      const events = await table.since(seen.table);
      const moved = events.filter(({ cause }) => cause === Cause.MOVED);
      expect(moved.map(({ dispatch }) => dispatch?.conferenceId ?? "").sort()).toEqual(lost);
      expect(events.filter(({ dispatch }) => others.includes(dispatch?.conferenceId ?? ""))).toEqual([]);
      const { conferences } = await client.conferences.listConferences({ pageSize: 1000 });
      expect(conferences.map(({ conferenceId }) => conferenceId)).toEqual(all);
      expect(conferences.filter(({ state }) => state !== Conference_State.ACTIVE)).toEqual([]);
      expect((await servers.statesSince(0)).filter((state) => /^s[23] DOWN/.test(state))).toEqual([]);
      expect(participant.isConnected).toBe(true);
    },
  );
});
