import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import {
  BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy,
  BatchCreateResult_Outcome as Outcome,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { type ControlPlane, openControlPlane, passUntil } from "../support/control-plane.ts";
import { eventually } from "../support/eventually.ts";
import { answerOf } from "../support/failures.ts";
import {
  type ConferenceInit,
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

const conflict = { code: Code.FailedPrecondition, reason: ErrorReason.STATE_CONFLICT };
const notFound = { code: Code.NotFound, reason: ErrorReason.CONFERENCE_NOT_FOUND };

/** Places conferences on a server of the given capacity. */
async function place(plane: ControlPlane, capacity = 1_000) {
  const server = await registerServer(plane, "s1", { capacity });
  const dispatcher = await registerDispatcher(plane, "d1", 600_000);
  const tasks = await fetchAll(plane, dispatcher);
  await plane.dispatchers.commitDispatches({
    ...dispatcher,
    dispatches: tasks.map((task) => dispatchOf(task, server)),
  });
  return dispatcher;
}

async function create(plane: ControlPlane, id: string, init?: Parameters<typeof conference>[2]) {
  const given = conference(plane, id, init);
  const created = (await plane.conferences.createConference({ conference: given })).conference;
  if (!created) throw new Error("no conference in the answer");
  return created;
}

const read = async (plane: ControlPlane, conferenceId: string) =>
  (await plane.conferences.getConference({ conferenceId })).conference;

describe("scheduling", () => {
  it("fills in defaults, ignores what is output only, and gives it back", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    const created = await create(plane, "one", {
      displayName: "Köln – daily",
      expectedParticipants: 12,
      region: "eu",
      requiredLabels: { gpu: "yes" },
      seriesId: "uid@calendar",
      state: Conference_State.ACTIVE,
      attempt: 9,
      etag: "made up",
      dispatch: { serverId: "s1" },
    });
    expect(created).toMatchObject({
      conferenceId: "one",
      state: Conference_State.SCHEDULED,
      weight: 12,
      attempt: 0,
      requiredLabels: { gpu: "yes" },
    });
    expect(created.dispatch).toBeUndefined();
    expect(created.createTime && timestampMs(created.createTime)).toBe(plane.clock.wallMs());
    expect((await client.conferences.getConference({ conferenceId: "one" })).conference).toEqual(created);
    expect((await create(plane, "two")).weight).toBe(1);
    expect(await answerOf(plane.conferences.getConference({ conferenceId: "none" }))).toEqual(notFound);
  });

  it("is safe to repeat with a request_id, which also makes the ID", async () => {
    await using plane = await openControlPlane();
    const request = { conference: conference(plane, ""), requestId: "booking 7" };
    const { conference: made } = await plane.conferences.createConference(request);
    expect(made?.conferenceId).toMatch(/^c-[0-9a-f]{32}$/);
    expect((await plane.conferences.createConference(request)).conference).toEqual(made);
    const named = { conference: conference(plane, "named"), requestId: "r1" };
    const both = await Promise.all([1, 2].map(() => plane.conferences.createConference(named)));
    expect(both[0]).toEqual(both[1]);
    const exists = { code: Code.AlreadyExists, reason: ErrorReason.CONFERENCE_EXISTS };
    expect(await answerOf(plane.conferences.createConference({ ...named, requestId: "r2" }))).toEqual(exists);
    expect(await answerOf(plane.conferences.createConference({ conference: named.conference }))).toEqual(
      exists,
    );
    const random = await Promise.all(
      [1, 2].map(() => plane.conferences.createConference({ conference: conference(plane, "") })),
    );
    expect(random[0]?.conference?.conferenceId).not.toBe(random[1]?.conference?.conferenceId);
  });

  it("gives one winner when many create the same at once", async () => {
    await using plane = await openControlPlane();
    const second = await plane.addReplica();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        answerOf(
          (index % 2 ? plane : second).conferences.createConference({
            conference: conference(plane, "same"),
            requestId: `r${index}`,
          }),
        ),
      ),
    );
    expect(answers.filter(({ code }) => code === 0)).toHaveLength(1);
    expect(answers.filter(({ code }) => code === Code.AlreadyExists)).toHaveLength(19);
  });

  it("of a batch answers for each, by policy", async () => {
    await using plane = await openControlPlane();
    await create(plane, "kept");
    await create(plane, "moved");
    await create(plane, "cancelled");
    await plane.conferences.cancelConference({ conferenceId: "cancelled" });
    const requests = [
      { conference: conference(plane, "kept") },
      { conference: conference(plane, "moved", { startInMs: 90_000 }) },
      { conference: conference(plane, "cancelled") },
      { conference: conference(plane, "new") },
    ];
    const outcomes = async (conflictPolicy: ConflictPolicy) =>
      (await plane.conferences.batchCreateConferences({ requests, conflictPolicy })).results.map(
        ({ outcome, rejection }) => rejection?.reason ?? outcome,
      );
    const exists = ErrorReason.CONFERENCE_EXISTS;
    expect(await outcomes(ConflictPolicy.UNSPECIFIED)).toEqual([exists, exists, exists, Outcome.CREATED]);
    expect(await outcomes(ConflictPolicy.UPDATE)).toEqual([
      Outcome.UNCHANGED,
      Outcome.UPDATED,
      Outcome.UPDATED,
      Outcome.UNCHANGED,
    ]);
    const revision = await plane.revision();
    expect(new Set(await outcomes(ConflictPolicy.UPDATE))).toEqual(new Set([Outcome.UNCHANGED]));
    expect(await plane.revision()).toBe(revision);
    expect(await read(plane, "cancelled")).toMatchObject({ state: Conference_State.SCHEDULED });
    const moved = await read(plane, "moved");
    expect(moved?.startTime && timestampMs(moved.startTime)).toBe(plane.clock.wallMs() + 90_000);
  });

  it("of 1000 at once makes each once, though the batch is sent twice at the same time", async () => {
    await using plane = await openControlPlane();
    const requests = Array.from({ length: 1000 }, (_, index) => ({
      conference: conference(plane, `c${index}`),
      requestId: `r${index}`,
    }));
    const answers = await Promise.all(
      [1, 2].map(() => plane.conferences.batchCreateConferences({ requests })),
    );
    for (const { results } of answers)
      expect(results.every(({ outcome }) => outcome === Outcome.CREATED)).toBe(true);
    expect((await plane.conferences.listConferences({ pageSize: 1000 })).conferences).toHaveLength(1000);
  });
});

describe("lists of conferences", () => {
  it("page in order of IDs, through filters, without loss or repetition", async () => {
    await using plane = await openControlPlane();
    const ids = await scheduleMany(plane, 25);
    for (const conferenceId of ids.filter((_, index) => index % 3 === 0))
      await plane.conferences.cancelConference({ conferenceId });
    const collect = async (request: { states?: Conference_State[] }) => {
      const pages: string[][] = [];
      for (let pageToken = ""; pages.length === 0 || pageToken !== ""; ) {
        const page = await plane.conferences.listConferences({ ...request, pageSize: 4, pageToken });
        pages.push(page.conferences.map(({ conferenceId }) => conferenceId));
        pageToken = page.nextPageToken;
      }
      return pages;
    };
    const all = await collect({});
    expect(all.flat()).toEqual(ids);
    expect(all.map((page) => page.length)).toEqual([4, 4, 4, 4, 4, 4, 1]);
    const scheduled = await collect({ states: [Conference_State.SCHEDULED] });
    expect(scheduled.flat()).toEqual(ids.filter((_, index) => index % 3 !== 0));
    expect(scheduled.every((page) => page.length > 0)).toBe(true);
  });

  it("filter by start and series", async () => {
    await using plane = await openControlPlane();
    await create(plane, "a", { startInMs: 1_000, seriesId: "x" });
    await create(plane, "b", { startInMs: 2_000 });
    await create(plane, "c", { startInMs: 3_000, seriesId: "x" });
    const at = (ms: number) => timestampFromMs(plane.clock.wallMs() + ms);
    const list = async (request: Parameters<ControlPlane["conferences"]["listConferences"]>[0]) =>
      (await plane.conferences.listConferences(request)).conferences.map(({ conferenceId }) => conferenceId);
    expect(await list({ startTimeFrom: at(2_000) })).toEqual(["b", "c"]);
    expect(await list({ startTimeFrom: at(1_000), startTimeUntil: at(3_000) })).toEqual(["a", "b"]);
    expect(await list({ seriesId: "x" })).toEqual(["a", "c"]);
  });
});

describe("an update", () => {
  const update = (plane: ControlPlane, init: ConferenceInit, paths: string[]) =>
    plane.conferences.updateConference({ conference: init, updateMask: { paths } });

  it("changes what the mask names, and nothing else", async () => {
    await using plane = await openControlPlane();
    const created = await create(plane, "one", { displayName: "old", region: "eu", weight: 4 });
    const { conference: changed } = await update(
      plane,
      { conferenceId: "one", displayName: "new", region: "us" },
      ["display_name"],
    );
    expect(changed).toMatchObject({ displayName: "new", region: "eu", weight: 4 });
    expect(changed?.etag).not.toBe(created.etag);
    const whole = conference(plane, "one", { displayName: "all" });
    const { conference: replaced } = await plane.conferences.updateConference({ conference: whole });
    expect(replaced).toMatchObject({ displayName: "all", region: "", weight: 1 });
  });

  it("is refused when the etag no longer matches", async () => {
    await using plane = await openControlPlane();
    const { etag } = await create(plane, "one");
    const answers = await Promise.all(
      ["a", "b", "c"].map((displayName) =>
        answerOf(update(plane, { conferenceId: "one", displayName, etag }, ["display_name"])),
      ),
    );
    expect(answers.filter(({ code }) => code === 0)).toHaveLength(1);
    expect(answers.filter(({ reason }) => reason === ErrorReason.ETAG_MISMATCH)).toHaveLength(2);
    expect(answers.every(({ code }) => code === 0 || code === Code.Aborted)).toBe(true);
  });

  it("is checked against what stays", async () => {
    await using plane = await openControlPlane();
    await create(plane, "one");
    const early = timestampFromMs(plane.clock.wallMs() - 1);
    expect(await answerOf(update(plane, { conferenceId: "one", endTime: early }, ["end_time"]))).toEqual({
      code: Code.InvalidArgument,
      reason: ErrorReason.INVALID_FIELD,
    });
    expect(await answerOf(update(plane, { conferenceId: "one" }, ["end_time"]))).toMatchObject({
      code: Code.InvalidArgument,
    });
    expect(await answerOf(update(plane, { conferenceId: "none" }, ["region"]))).toEqual(notFound);
  });

  it("moves the validity of a dispatch with the end, and makes room for a larger weight or refuses it", async () => {
    await using plane = await openControlPlane({ settings: { graceMs: 1_000 } });
    await create(plane, "one", { weight: 4 });
    await create(plane, "two", { weight: 4 });
    await place(plane, 10);
    const endTime = timestampFromMs(plane.clock.wallMs() + 7_200_000);
    await update(plane, { conferenceId: "one", endTime }, ["end_time"]);
    const { dispatch } = await plane.conferences.getDispatch({ conferenceId: "one" });
    expect(dispatch?.validUntil && timestampMs(dispatch.validUntil)).toBe(timestampMs(endTime) + 1_000);

    const answers = await Promise.all(
      ["one", "two"].map((conferenceId) => answerOf(update(plane, { conferenceId, weight: 6 }, ["weight"]))),
    );
    expect(answers.filter(({ code }) => code === 0)).toHaveLength(1);
    expect(answers).toContainEqual({
      code: Code.FailedPrecondition,
      reason: ErrorReason.CAPACITY_EXCEEDED,
    });
    expect((await plane.servers.getServer({ serverId: "s1" })).server?.reservedUnits).toBe(10);
    await update(plane, { conferenceId: "one", weight: 1 }, ["weight"]);
    await update(plane, { conferenceId: "two", weight: 1 }, ["weight"]);
    expect((await plane.servers.getServer({ serverId: "s1" })).server?.reservedUnits).toBe(2);
  });
});

describe("the end of a conference", () => {
  it("by each call is allowed as documented", async () => {
    await using plane = await openControlPlane();
    const { conferences } = plane;
    for (const id of ["active", "cancelled", "ended"]) await create(plane, id);
    await place(plane);
    await create(plane, "scheduled");
    expect(await answerOf(conferences.endConference({ conferenceId: "scheduled" }))).toEqual(conflict);
    for (let repeat = 0; repeat < 2; repeat++) {
      expect((await conferences.endConference({ conferenceId: "ended" })).conference).toMatchObject({
        state: Conference_State.ENDED,
      });
      expect((await conferences.cancelConference({ conferenceId: "cancelled" })).conference).toMatchObject({
        state: Conference_State.CANCELLED,
      });
    }
    expect(await answerOf(conferences.cancelConference({ conferenceId: "ended" }))).toEqual(conflict);
    expect(await answerOf(conferences.endConference({ conferenceId: "cancelled" }))).toEqual(conflict);
    const name = {
      conference: { conferenceId: "ended", displayName: "x" },
      updateMask: { paths: ["display_name"] },
    };
    expect(await answerOf(conferences.updateConference(name))).toEqual(conflict);
    for (const call of ["endConference", "cancelConference", "requeueConference", "getDispatch"] as const)
      expect(await answerOf(conferences[call]({ conferenceId: "none" }))).toEqual(notFound);
    const { server } = await plane.servers.getServer({ serverId: "s1" });
    expect(server).toMatchObject({ reservedUnits: 1, conferenceCount: 1 });
  });

  it("takes a claimed one from its dispatcher", async () => {
    await using plane = await openControlPlane();
    await create(plane, "one");
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const tasks = await fetchAll(plane, dispatcher);
    await plane.conferences.cancelConference({ conferenceId: "one" });
    const server = await registerServer(plane, "s1");
    const { results } = await plane.dispatchers.commitDispatches({
      ...dispatcher,
      dispatches: tasks.map((task) => dispatchOf(task, server)),
    });
    expect(results[0]?.outcome).toMatchObject({ value: { reason: ErrorReason.CLAIM_LOST } });
    expect(await fetchAll(plane, dispatcher)).toEqual([]);
  });

  it("comes by time: ENDED after the grace, FAILED when it was never placed, forgotten after the retention", async () => {
    await using plane = await openControlPlane({ settings: { graceMs: 5_000, retentionMs: 3_600_000 } });
    await create(plane, "placed", { startInMs: 0, lastsMs: 10_000 });
    await place(plane);
    await create(plane, "missed", { startInMs: 0, lastsMs: 10_000, region: "x" });
    const stateOf = async (id: string) => (await read(plane, id))?.state;
    await plane.clock.advance(11_000);
    await eventually(() => stateOf("missed")).toBe(Conference_State.FAILED);
    expect((await read(plane, "missed"))?.failure?.message).toMatch(/not placed before/);
    expect(await stateOf("placed")).toBe(Conference_State.ACTIVE);
    await plane.clock.advance(3_999);
    expect((await plane.conferences.getDispatch({ conferenceId: "placed" })).dispatch).toBeDefined();
    await plane.clock.advance(1);
    expect(await answerOf(plane.conferences.getDispatch({ conferenceId: "placed" }))).toEqual({
      code: Code.NotFound,
      reason: ErrorReason.DISPATCH_NOT_FOUND,
    });
    await passUntil(plane.clock, eventually(() => stateOf("placed")).toBe(Conference_State.ENDED), 1_000);
    const forgotten = eventually(() =>
      answerOf(plane.conferences.getConference({ conferenceId: "placed" })),
    ).toEqual(notFound);
    await plane.clock.advance(1_800_000);
    expect(await stateOf("placed")).toBe(Conference_State.ENDED);
    await passUntil(plane.clock, forgotten, 60_000);
  });

  it("of hundreds at one moment is written at once", async () => {
    await using plane = await openControlPlane();
    await plane.conferences.batchCreateConferences({
      requests: Array.from({ length: 500 }, (_, index) => ({
        conference: conference(plane, `c${index}`, { startInMs: 0, lastsMs: 500 }),
      })),
    });
    const failed = eventually(
      async () =>
        (await plane.conferences.listConferences({ pageSize: 1000, states: [Conference_State.FAILED] }))
          .conferences.length,
    ).toBe(500);
    await passUntil(plane.clock, failed, 1_000);
  });

  it("by a call that races with another has one outcome", async () => {
    await using plane = await openControlPlane();
    const ids = await scheduleMany(plane, 30);
    await place(plane);
    await Promise.all(
      ids.map(async (conferenceId) => {
        const [end, cancel] = await Promise.all([
          answerOf(plane.conferences.endConference({ conferenceId })),
          answerOf(plane.conferences.cancelConference({ conferenceId })),
        ]);
        const codes = [end.code, cancel.code].sort();
        expect(codes).toEqual([0, Code.FailedPrecondition].sort());
      }),
    );
    expect((await plane.servers.getServer({ serverId: "s1" })).server?.reservedUnits).toBe(0);
  });
});
