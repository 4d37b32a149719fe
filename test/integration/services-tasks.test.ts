import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { type ControlPlane, openControlPlane, passUntil } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { answerOf } from "../support/failures.ts";
import { conference, fetchAll, registerDispatcher, scheduleMany } from "../support/scheduling.ts";

const LONG_TTL_MS = 600_000;

async function dispatchersOf(plane: ControlPlane, count: number) {
  const dispatchers: { dispatcherId: string; epoch: bigint }[] = [];
  for (let rank = 0; rank < count; rank++)
    dispatchers.push(await registerDispatcher(plane, `d${String(rank).padStart(2, "0")}`, LONG_TTL_MS));
  return dispatchers;
}

const sharesOf = (total: number, count: number) =>
  Array.from({ length: count }, (_, rank) => Math.floor(total / count) + (rank < total % count ? 1 : 0));

describe("sharing out (I4)", () => {
  it("gives everyone the share that QueryTotal told, and no conference twice, for many sizes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 0, max: 300 }),
        fc.boolean(),
        async (count, total, atOnce) => {
          await using plane = await openControlPlane();
          const dispatchers = await dispatchersOf(plane, count);
          const ids = await scheduleMany(plane, total);
          const shares = sharesOf(total, count);
          const queries = await Promise.all(dispatchers.map((one) => plane.dispatchers.queryTotal(one)));
          expect(queries.map(({ share }) => share)).toEqual(shares);
          for (const [rank, query] of queries.entries())
            expect(query).toMatchObject({ total, rank, dispatcherCount: count, taken: 0, round: 0n });
          const hands: string[][] = [];
          const fetchFor = async (rank: number) => {
            const tasks = await fetchAll(plane, dispatchers[rank] ?? {});
            hands[rank] = tasks.map(({ conferenceId }) => conferenceId);
          };
          const ranks = dispatchers.map((_, rank) => rank);
          if (atOnce) await Promise.all(ranks.map(fetchFor));
          else for (const rank of ranks.toReversed()) await fetchFor(rank);
          expect(hands.map((hand) => hand.length)).toEqual(shares);
          expect(hands.flat().sort()).toEqual(ids);
        },
      ),
      { numRuns: 15 },
    );
  });

  it("holds over two replicas that hand out at once", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    const dispatchers = await dispatchersOf(plane, 4);
    const ids = await scheduleMany(plane, 402);
    const hands = await Promise.all(
      dispatchers.map((one, rank) => fetchAll(rank % 2 === 0 ? plane : second, one)),
    );
    expect(hands.map((hand) => hand.length)).toEqual([101, 101, 100, 100]);
    expect(
      hands
        .flat()
        .map(({ conferenceId }) => conferenceId)
        .sort(),
    ).toEqual(ids);
  });

  it("gives a dispatcher that asks for everything no more than its share", async () => {
    await using plane = await openControlPlane();
    const [liar] = await dispatchersOf(plane, 3);
    await scheduleMany(plane, 30);
    for (let attempt = 0; attempt < 3; attempt++)
      expect(await fetchAll(plane, { ...liar, maxTasks: 100_000 })).toHaveLength(10);
    expect(await plane.dispatchers.queryTotal({ dispatcherId: "d00" })).toMatchObject({
      total: 30,
      share: 10,
      taken: 10,
    });
    const { conferences } = await plane.conferences.listConferences({ states: [Conference_State.CLAIMED] });
    expect(conferences).toHaveLength(10);
  });

  it("deals by weight, and gives early and late ones alike", async () => {
    await using plane = await openControlPlane();
    const shares: number[] = [];
    for (const [dispatcherId, weight] of [
      ["a", 3],
      ["b", 1],
    ] as const)
      await plane.dispatchers.registerDispatcher({ dispatcherId, weight, ttl: { seconds: 600n } });
    await scheduleMany(plane, 10);
    for (const dispatcherId of ["a", "b"])
      shares.push((await plane.dispatchers.queryTotal({ dispatcherId })).share);
    expect(shares).toEqual([8, 2]);
    const { dispatchers } = await plane.dispatchers.listDispatchers({});
    const late = await fetchAll(plane, { dispatcherId: "b", epoch: dispatchers[1]?.epoch ?? 0n });
    expect(late.map(({ conferenceId }) => conferenceId)).toEqual(["c-0002", "c-0006"]);
  });

  it("counts what is due within the window only, and not what is over", async () => {
    await using plane = await openControlPlane();
    const [d0] = await dispatchersOf(plane, 1);
    const request = { dispatcherId: "d00", window: { seconds: 3600n } };
    for (const [id, startInMs] of [
      ["past", -3_000_000],
      ["edge", 3_600_000],
      ["later", 3_600_001],
      ["tomorrow", 100_000_000],
    ] as const) {
      await plane.conferences.createConference({ conference: conference(plane, id, { startInMs }) });
    }
    await plane.conferences.createConference({
      conference: conference(plane, "over", { startInMs: -2_000, lastsMs: 1_000 }),
    });
    expect(await plane.dispatchers.queryTotal(request)).toMatchObject({ total: 2 });
    const tasks = await fetchAll(plane, { ...d0, window: { seconds: 3600n } });
    expect(tasks.map(({ conferenceId }) => conferenceId)).toEqual(["past", "edge"]);
  });

  it("begins anew, with clean accounts, when the registry changes", async () => {
    await using plane = await openControlPlane();
    const [d0, d1] = await dispatchersOf(plane, 2);
    await scheduleMany(plane, 8);
    expect(await fetchAll(plane, { ...d0 })).toHaveLength(4);
    const d2 = await registerDispatcher(plane, "d02", LONG_TTL_MS);
    expect(await plane.dispatchers.queryTotal({ dispatcherId: "d02" })).toMatchObject({
      total: 4,
      share: 1,
      taken: 0,
      round: 0n,
    });
    expect(await fetchAll(plane, { ...d1 })).toHaveLength(1);
    expect(await fetchAll(plane, d2)).toHaveLength(1);
    expect(await fetchAll(plane, { ...d0 })).toHaveLength(6);
  });

  it("refuses a dispatcher that is not registered", async () => {
    await using plane = await openControlPlane();
    expect(await answerOf(plane.dispatchers.queryTotal({ dispatcherId: "nobody" }))).toEqual({
      code: Code.NotFound,
      reason: ErrorReason.DISPATCHER_NOT_FOUND,
    });
    expect(await answerOf(fetchAll(plane, { dispatcherId: "nobody", epoch: 2n ** 62n }))).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.EPOCH_EXPIRED,
    });
  });
});

describe("a fetch", () => {
  it("sends again what is held, after a reply that was lost on the way", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    const [d0] = await dispatchersOf(plane, 1);
    const ids = await scheduleMany(plane, 350);
    // The caller leaves after the first message; what was claimed for it meanwhile stays claimed.
    for await (const { tasks } of client.dispatchers.fetchTasks({ ...d0 })) {
      expect(tasks).toHaveLength(100);
      break;
    }
    const first = await fetchAll(client, { ...d0 });
    expect(first.map(({ conferenceId }) => conferenceId).sort()).toEqual(ids);
    const again = await fetchAll(client, { ...d0 });
    expect(again.map(({ dispatchEpoch }) => dispatchEpoch).sort()).toEqual(
      first.map(({ dispatchEpoch }) => dispatchEpoch).sort(),
    );
    expect(again.every(({ attempt }) => attempt === 1)).toBe(true);
  });

  it("has messages of at most 100 tasks, in order of start, up to max_tasks", async () => {
    await using plane = await openControlPlane();
    const [d0] = await dispatchersOf(plane, 1);
    await scheduleMany(plane, 400);
    const sizes: number[] = [];
    const starts: bigint[] = [];
    for await (const { tasks } of plane.dispatchers.fetchTasks({ ...d0, maxTasks: 230 })) {
      sizes.push(tasks.length);
      starts.push(...tasks.map(({ startTime }) => startTime?.seconds ?? 0n));
    }
    expect(sizes.reduce((a, b) => a + b, 0)).toBe(230);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(100);
    expect(starts).toEqual(starts.toSorted((a, b) => Number(a - b)));
    expect((await plane.dispatchers.queryTotal({ dispatcherId: "d00" })).taken).toBe(230);
  });

  it("takes over what another has left past the deadline", async () => {
    await using plane = await openControlPlane({ settings: { takeoverMs: 2_000 } });
    const [d0] = await dispatchersOf(plane, 2);
    await scheduleMany(plane, 10);
    expect(await fetchAll(plane, { ...d0 })).toHaveLength(5);
    await plane.clock.advance(1_999);
    expect(await fetchAll(plane, { ...d0 })).toHaveLength(5);
    await plane.clock.advance(1);
    const all = await fetchAll(plane, { ...d0 });
    expect(all).toHaveLength(10);
    const { conference: taken } = await plane.conferences.getConference({
      conferenceId: all.at(-1)?.conferenceId ?? "",
    });
    expect(taken?.claim?.round).toBe(0n);
  });

  it("waits for a conference, and ends without one when the wait is over", async () => {
    await using plane = await openControlPlane();
    const [d0] = await dispatchersOf(plane, 1);
    const startedMs = plane.clock.monotonicMs();
    expect(await passUntil(plane.clock, fetchAll(plane, { ...d0, wait: { seconds: 5n } }), 500)).toEqual([]);
    expect(plane.clock.monotonicMs() - startedMs).toBeGreaterThanOrEqual(5_000);

    const idle = plane.clock.pending;
    const waiting = fetchAll(plane, { ...d0, wait: { seconds: 60n } });
    await plane.clock.armed(idle + 1);
    await plane.conferences.createConference({ conference: conference(plane, "new") });
    const tasks = await passUntil(plane.clock, waiting, 5);
    expect(tasks.map(({ conferenceId }) => conferenceId)).toEqual(["new"]);
  });

  it("wakes when time alone makes a conference due", async () => {
    await using plane = await openControlPlane();
    const [d0] = await dispatchersOf(plane, 1);
    await plane.conferences.createConference({
      conference: conference(plane, "soon", { startInMs: 30_000 }),
    });
    const dueMs = plane.clock.wallMs() + 20_000;
    const waiting = fetchAll(plane, { ...d0, window: { seconds: 10n }, wait: { seconds: 60n } });
    expect(await passUntil(plane.clock, waiting, 250)).toHaveLength(1);
    expect(plane.clock.wallMs()).toBeGreaterThanOrEqual(dueMs);
  });

  it("gives way to a newer one of the same dispatcher", async () => {
    await using plane = await openControlPlane();
    const [d0] = await dispatchersOf(plane, 1);
    const idle = plane.clock.pending;
    const old = answerOf(fetchAll(plane, { ...d0, wait: { seconds: 60n } }));
    await plane.clock.armed(idle + 1);
    expect(await fetchAll(plane, { ...d0 })).toEqual([]);
    expect(await old).toEqual({ code: Code.Aborted, reason: ErrorReason.CONTENTION });
  });

  it("ends with the epoch, and at once with its caller", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    const [d0] = await dispatchersOf(plane, 1);
    const idle = plane.clock.pending;
    const waiting = answerOf(fetchAll(client, { ...d0, wait: { seconds: 60n } }));
    await plane.clock.armed(idle + 1);
    await registerDispatcher(plane, "d00", LONG_TTL_MS);
    expect(await passUntil(plane.clock, waiting, 5)).toEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.DISPATCHER_REPLACED,
    });
    const [fresh] = await dispatchersOf(plane, 1);
    const before = plane.clock.pending;
    const controller = new AbortController();
    const left = answerOf(
      fetchAll(client, { ...fresh, wait: { seconds: 60n } }, { signal: controller.signal }),
    );
    await plane.clock.armed(before + 1);
    controller.abort();
    expect((await left).code).toBe(Code.Canceled);
    await eventually(() => plane.clock.pending).toBe(before);
    expect(plane.complaints).toEqual([]);
  });
});
