import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { openControlPlane } from "../support/control-plane.ts";
import { answerOf } from "../support/failures.ts";
import { openFaulty } from "../support/faulty-control-plane.ts";
import { GRACE_MS, keys, observed, SOON_MS, stateOf, versionOf } from "../support/judged-servers.ts";
import {
  ANSWERS,
  pass,
  REFUSED,
  REFUSED_ONCE,
  registerDispatchers,
  registerServers,
  report,
  SILENT,
} from "../support/observing.ts";
import { registerDispatcher } from "../support/scheduling.ts";

describe("observations", () => {
  it("I5: are refused of an epoch that is over, whoever has the ID now", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    const { d1, d2, dead } = await observed(plane, 8);
    await report(plane, d2, dead, REFUSED);
    const successor = await registerDispatcher(second, "d1", 600_000);
    const failed = Code.FailedPrecondition;
    expect(await answerOf(report(plane, d1, dead, REFUSED))).toEqual({
      code: failed,
      reason: ErrorReason.DISPATCHER_REPLACED,
    });
    await second.dispatchers.deregisterDispatcher(successor);
    for (const gone of [d1, successor])
      expect(await answerOf(report(plane, gone, dead, REFUSED))).toEqual({
        code: failed,
        reason: ErrorReason.EPOCH_EXPIRED,
      });
    expect(await versionOf(plane, keys.observation("s01", "d1"))).toBe(0);
    await pass(plane, SOON_MS);
    expect(await stateOf(plane, "s01")).toBe("UP REGISTERED");
  });

  it("I5: are fenced in the store by the epoch, also where the view does not know yet that it is over", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    const { d1, dead } = await observed(plane, 8);
    const lease = (await plane.store.range({ key: keys.dispatcher("d1") })).kvs[0]?.lease ?? 0n;
    faulty.beforeTxn = async ({ compare }) => {
      if (!compare.some(({ key }) => key === keys.observation("s01", "d1"))) return;
      faulty.beforeTxn = () => {};
      // The ID is taken over in the moment before the write; the old lease lives on.
      const value =
        (await plane.store.range({ key: keys.dispatcher("d1") })).kvs[0]?.value ?? new Uint8Array();
      const grant = await plane.store.leaseGrant(600_000);
      await plane.store.txn({
        compare: [],
        then: [{ put: { key: keys.dispatcher("d1"), value, lease: grant.leaseId } }],
      });
    };
    expect(await answerOf(report(plane, d1, dead, REFUSED))).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.DISPATCHER_REPLACED,
    });
    expect((await plane.store.leaseKeepalive(lease)).ttlMs).toBeGreaterThan(0);
    expect(await versionOf(plane, keys.observation("s01", "d1"))).toBe(0);
  });

  it("are written once however often they are repeated, and cleared when the server is well", async () => {
    await using plane = await openControlPlane();
    const { d1, dead } = await observed(plane, 8);
    const key = keys.observation("s01", "d1");
    await report(plane, d1, dead, ANSWERS);
    expect(await versionOf(plane, key)).toBe(0);
    for (let repeat = 0; repeat < 3; repeat++) await report(plane, d1, dead, REFUSED_ONCE);
    expect(await versionOf(plane, key)).toBe(1);
    await report(plane, d1, [{ serverId: "s01", incarnation: 1n }], REFUSED);
    expect(await versionOf(plane, key)).toBe(2);
    await report(plane, d1, [{ serverId: "none", incarnation: 1n }], REFUSED);
    expect(await versionOf(plane, keys.observation("none", "d1"))).toBe(0);
    const { observations } = await plane.servers.listObservations({});
    expect(observations).toHaveLength(1);
    expect(observations[0]).toMatchObject({ serverId: "s01", dispatcherId: "d1", inARow: 2, counts: true });
    expect(observations[0]?.reportTime).toBeDefined();
    await report(plane, d1, dead, ANSWERS);
    expect(await versionOf(plane, key)).toBe(0);
    expect((await plane.servers.listObservations({})).observations).toEqual([]);
  });

  it("go into as many transactions as they need", async () => {
    await using plane = await openControlPlane();
    const [d1, d2] = await registerDispatchers(plane, 2);
    if (!d1 || !d2) throw new Error("no dispatchers");
    const servers = await registerServers(plane, 300);
    await pass(plane, GRACE_MS);
    for (const one of [d1, d2]) await report(plane, one, servers, SILENT);
    const firstPage = await plane.servers.listObservations({ pageSize: 400 });
    const { nextPageToken: pageToken } = firstPage;
    const rest = await plane.servers.listObservations({ pageSize: 400, pageToken });
    expect(rest.nextPageToken).toBe("");
    const told = [...firstPage.observations, ...rest.observations].map(
      ({ serverId, dispatcherId }) => `${serverId}/${dispatcherId}`,
    );
    expect(told).toHaveLength(600);
    expect(told).toEqual([...new Set(told)].sort());
    await pass(plane, SOON_MS);
    const { servers: page } = await plane.servers.listServers({ pageSize: 1000 });
    expect(new Set(page.map(({ health }) => health?.cause))).toEqual(
      new Set([Server_Health_Cause.HELD_BY_BRAKE]),
    );
    await plane.servers.releaseBrake({});
    await pass(plane, SOON_MS);
    const { servers: down } = await plane.servers.listServers({ pageSize: 1000 });
    expect(new Set(down.map(({ state }) => state))).toEqual(new Set([Server_State.DOWN]));
    expect((await plane.replica.metrics.render()).text).toMatch(
      /convoke_server_verdicts_total\{state="down",cause="timeouts"\} 300\n/,
    );
  });
});
