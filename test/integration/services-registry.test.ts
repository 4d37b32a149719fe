import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { timestampMs } from "../../common/time.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { type Clients, type ControlPlane, openControlPlane, passUntil } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { answerOf } from "../support/failures.ts";
import { fetchAll, registerDispatcher, scheduleMany } from "../support/scheduling.ts";

const registered = async (plane: Clients) =>
  (await plane.dispatchers.listDispatchers({})).dispatchers.map(({ dispatcherId }) => dispatcherId);

/** Lets time pass until nobody but these is registered. */
async function passUntilRegistered(plane: ControlPlane, ids: string[], ms: number) {
  await plane.clock.advance(ms);
  await eventually(() => registered(plane)).toEqual(ids);
}

describe("the registry of dispatchers", () => {
  it("grants an epoch that lives as long as heartbeats come", async () => {
    await using plane = await openControlPlane();
    const { clock, dispatchers } = plane;
    const sentMs = clock.wallMs();
    const { dispatcher, heartbeatInterval } = await dispatchers.registerDispatcher({
      dispatcherId: "d1",
      ttl: { seconds: 6n },
      weight: 3,
      labels: { zone: "a" },
    });
    expect(dispatcher).toMatchObject({ dispatcherId: "d1", weight: 3, labels: { zone: "a" } });
    expect(dispatcher?.expireTime && timestampMs(dispatcher.expireTime)).toBe(sentMs + 6_000);
    expect(heartbeatInterval).toMatchObject({ seconds: 2n, nanos: 0 });
    const epoch = dispatcher?.epoch ?? 0n;
    expect(epoch).toBeGreaterThan(0n);

    await clock.advance(4_000);
    const beat = await dispatchers.heartbeat({ dispatcherId: "d1", epoch });
    expect(beat).toMatchObject({ dispatcherCount: 1, registryRevision: epoch });
    expect(beat.expireTime && timestampMs(beat.expireTime)).toBe(clock.wallMs() + 6_000);
    await clock.advance(5_999);
    expect(await registered(plane)).toEqual(["d1"]);
    await passUntilRegistered(plane, [], 1);
    expect(await answerOf(dispatchers.heartbeat({ dispatcherId: "d1", epoch }))).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.EPOCH_EXPIRED,
    });
  });

  it("voids the claims of a dispatcher whose lease ends, and gives them to others", async () => {
    await using plane = await openControlPlane();
    const d1 = await registerDispatcher(plane, "d1", 2_000);
    await registerDispatcher(plane, "d2", 600_000);
    const ids = await scheduleMany(plane, 10);
    const mine = await fetchAll(plane, d1);
    expect(mine).toHaveLength(5);

    const d2 = await registerDispatcher(plane, "d2", 600_000);
    expect(await fetchAll(plane, d2)).toHaveLength(2);
    await passUntilRegistered(plane, ["d2"], 2_000);
    const rest = await fetchAll(plane, d2);
    expect(rest.map(({ conferenceId }) => conferenceId).sort()).toEqual(ids);
    const taken = rest.find(({ conferenceId }) => conferenceId === mine[0]?.conferenceId);
    expect(taken?.attempt).toBe(2);
    expect(taken?.dispatchEpoch).toBeGreaterThan(mine[0]?.dispatchEpoch ?? 0n);
    const { conference } = await plane.conferences.getConference({ conferenceId: taken?.conferenceId ?? "" });
    expect(conference?.claim).toMatchObject({ dispatcherId: "d2", dispatcherEpoch: d2.epoch });
    expect(conference?.supersededClaim).toMatchObject({ dispatcherId: "d1", dispatcherEpoch: d1.epoch });
  });

  it("replaces a registration at once", async () => {
    await using plane = await openControlPlane();
    const old = await registerDispatcher(plane, "d1");
    await scheduleMany(plane, 4);
    expect(await fetchAll(plane, old)).toHaveLength(4);
    const young = await registerDispatcher(plane, "d1");
    expect(young.epoch).toBeGreaterThan(old.epoch);
    const replaced = { code: Code.FailedPrecondition, reason: ErrorReason.DISPATCHER_REPLACED };
    expect(await answerOf(plane.dispatchers.heartbeat(old))).toEqual(replaced);
    expect(await answerOf(fetchAll(plane, old))).toEqual(replaced);
    const dispatches = [
      { conferenceId: "c-0000", dispatchEpoch: 1n, serverId: "s1", incarnation: 1n, address: "ws://a" },
    ];
    expect(await answerOf(plane.dispatchers.commitDispatches({ ...old, dispatches }))).toEqual(replaced);
    const releases = [{ conferenceId: "c-0000", dispatchEpoch: 1n, cause: 3 }];
    expect(await answerOf(plane.dispatchers.releaseTasks({ ...old, releases }))).toEqual(replaced);
    await plane.dispatchers.deregisterDispatcher(old);
    expect(await registered(plane)).toEqual(["d1"]);
    expect(await fetchAll(plane, young)).toHaveLength(4);
  });

  it("never tells a replaced dispatcher that its lease has merely ended", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    let standing = await registerDispatcher(plane, "d1");
    for (let round = 0; round < 20; round++) {
      const old = standing;
      const replacing = registerDispatcher(plane, "d1");
      let answer = await answerOf(second.dispatchers.heartbeat(old));
      while (answer.code === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        answer = await answerOf(second.dispatchers.heartbeat(old));
      }
      expect(answer).toEqual({ code: Code.FailedPrecondition, reason: ErrorReason.DISPATCHER_REPLACED });
      standing = await replacing;
    }
  });

  it("keeps one registration when many register under one ID at once", async () => {
    await using plane = await openControlPlane();
    const outcomes = await Promise.all(
      Array.from({ length: 4 }, () => registerDispatcher(plane, "d1").catch(() => undefined)),
    );
    const { dispatchers } = await plane.dispatchers.listDispatchers({});
    expect(dispatchers).toHaveLength(1);
    const epochs = outcomes.map((outcome) => outcome?.epoch ?? 0n);
    expect(epochs).toContain(dispatchers[0]?.epoch);
    expect(epochs.filter((epoch) => epoch > (dispatchers[0]?.epoch ?? 0n))).toEqual([]);
  });

  it("has forgotten a dispatcher when its deregistration is answered", async () => {
    await using plane = await openControlPlane();
    const d1 = await registerDispatcher(plane, "d1");
    await scheduleMany(plane, 3);
    await fetchAll(plane, d1);
    await plane.dispatchers.deregisterDispatcher(d1);
    expect(await registered(plane)).toEqual([]);
    const { conferences } = await plane.conferences.listConferences({ states: [1] });
    expect(conferences).toHaveLength(3);
    await plane.dispatchers.deregisterDispatcher(d1);
  });

  it("pages and streams the registry", async () => {
    await using plane = await openControlPlane();
    for (const id of ["d3", "d1", "d2"]) await registerDispatcher(plane, id);
    const first = await plane.dispatchers.listDispatchers({ pageSize: 2 });
    expect(first.dispatchers.map(({ dispatcherId }) => dispatcherId)).toEqual(["d1", "d2"]);
    const second = await plane.dispatchers.listDispatchers({ pageSize: 2, pageToken: first.nextPageToken });
    expect(second.dispatchers.map(({ dispatcherId }) => dispatcherId)).toEqual(["d3"]);
    expect(second.nextPageToken).toBe("");

    const seen: string[] = [];
    for await (const { events, revision } of plane.dispatchers.watchDispatchers({})) {
      seen.push(...events.map(({ type, dispatcher }) => `${EventType[type]} ${dispatcher?.dispatcherId}`));
      if (seen.length === 3 && revision > 0n) await registerDispatcher(plane, "d1");
      if (seen.length === 4) break;
    }
    expect(seen).toEqual(["PUT d1", "PUT d2", "PUT d3", "PUT d1"]);
  });

  it("survives a restart of the replica: registrations, claims and places go on", async () => {
    await using plane = await openControlPlane();
    const d1 = await registerDispatcher(plane, "d1");
    await scheduleMany(plane, 5);
    const before = await fetchAll(plane, d1);
    await plane.restart();
    await plane.dispatchers.heartbeat(d1);
    expect(await fetchAll(plane, d1)).toEqual(before);
    await passUntil(plane.clock, eventually(() => registered(plane)).toEqual([]), 1_000);
  });

  it("serves the same over a socket", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    const d1 = await registerDispatcher(client, "d1");
    expect(await client.dispatchers.heartbeat(d1)).toMatchObject({ dispatcherCount: 1 });
    await scheduleMany(plane, 250);
    expect(await fetchAll(client, d1)).toHaveLength(250);
    expect(await answerOf(client.dispatchers.heartbeat({ ...d1, epoch: d1.epoch + 1n }))).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.EPOCH_EXPIRED,
    });
  });
});
