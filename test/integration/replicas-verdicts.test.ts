import { describe, expect, it } from "vitest";
import { compileDetection } from "../../common/detection.ts";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { eventually } from "../support/eventually.ts";
import {
  REFUSED,
  type Registration,
  registerDispatchers,
  registerServers,
  report,
} from "../support/observing.ts";
import { embeddedCluster, etcdCluster, startReplicas, type TestReplica } from "../support/replicas.ts";
import { seededRandom } from "../support/seeded-random.ts";

const SLOW = { txnMs: 4, watchMs: 20, random: seededRandom(7) };

/** How many verdicts of DOWN a replica has written. */
async function declaredBy({ replica }: TestReplica): Promise<number> {
  const metric = replica.metrics.registry.getSingleMetric("convoke_server_verdicts_total");
  const { values = [] } = (await metric?.get()) ?? {};
  return values.filter(({ labels }) => labels.state === "down").reduce((sum, { value }) => sum + value, 0);
}

async function standings({ client }: TestReplica): Promise<Record<string, number>> {
  const { servers } = await client.servers.listServers({ pageSize: 1000 });
  const counts: Record<string, number> = {};
  for (const { state, health } of servers) {
    const name = `${Server_State[state]} ${Server_Health_Cause[health?.cause ?? 0]}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

describe.each([embeddedCluster(SLOW), etcdCluster])("replicas that judge at once, on $name", (factory) => {
  it("write each verdict once between them, and no more than the brake allows", async () => {
    const detection = compileDetection({ graceMs: 0, settleMs: 100 });
    await using world = await startReplicas(factory, 3, { detection });
    const [first, second, third] = world.replicas as [TestReplica, TestReplica, TestReplica];
    const dispatchers = await registerDispatchers(first.client, 3);
    const [d1, d2] = dispatchers as [Registration, Registration];
    const servers = await registerServers(first.client, 20);
    const dying = servers.slice(0, 6);
    await Promise.all([
      report(first.client, d1, dying, REFUSED),
      report(second.client, d2, dying.slice(0, 3), REFUSED),
      report(third.client, d2, dying.slice(3), REFUSED),
    ]);
    for (const replica of world.replicas)
      await eventually(() => standings(replica)).toEqual({ "DOWN REFUSALS": 6, "UP REGISTERED": 14 });
    const declared = await Promise.all(world.replicas.map(declaredBy));
    expect(declared.reduce((a, b) => a + b)).toBe(6);

    await Promise.all([
      report(third.client, d1, servers.slice(6, 12), REFUSED),
      report(first.client, d2, servers.slice(6, 12), REFUSED),
    ]);
    for (const replica of world.replicas)
      await eventually(() => standings(replica)).toEqual({
        "DOWN REFUSALS": 6,
        "SUSPECT HELD_BY_BRAKE": 6,
        "UP REGISTERED": 8,
      });

    await second.client.servers.releaseBrake({});
    for (const replica of world.replicas)
      await eventually(() => standings(replica)).toEqual({ "DOWN REFUSALS": 12, "UP REGISTERED": 8 });
    const released = await Promise.all(world.replicas.map(declaredBy));
    expect(released.reduce((a, b) => a + b)).toBe(12);
  });
});
