import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import {
  type ConferenceRecord,
  ConferenceRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { Dispatch_MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import {
  TaskRelease_Cause as Cause,
  NewDispatchSchema,
  TaskReleaseSchema,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { readConferenceEntry } from "../view/conference-entry.ts";
import { claimRecord, dispatchRecord, encodeRecord, releaseRecord, toTask } from "./records.ts";

const NOW_MS = Date.UTC(2030, 0, 1, 12);
const writer = { nowMs: NOW_MS, attemptId: "attempt" };
const END_MS = NOW_MS + 3_600_000;

/** The entry that a record becomes when it is written at a revision. */
function written(record: ConferenceRecord, modRevision: bigint) {
  const value = encodeRecord(record);
  return readConferenceEntry("c1", {
    key: "k",
    value,
    createRevision: 1n,
    modRevision,
    version: 1n,
    lease: 0n,
  });
}

const scheduled = () =>
  written(
    create(ConferenceRecordSchema, {
      requestId: "r",
      retryTimeMs: 5n,
      conference: {
        conferenceId: "c1",
        state: Conference_State.SCHEDULED,
        startTime: timestampFromMs(NOW_MS),
        endTime: timestampFromMs(END_MS),
        weight: 3,
      },
    }),
    10n,
  );
const claimer = { dispatcherId: "d1", epoch: 7n, round: 9n, moveReason: Dispatch_MoveReason.UNSPECIFIED };
const dispatch = create(NewDispatchSchema, {
  conferenceId: "c1",
  dispatchEpoch: 20n,
  serverId: "s1",
  incarnation: 2n,
  address: "ws://a",
});

describe("what is written of a conference", () => {
  it("by a claim has the revision of the write as its dispatch epoch, and keeps it", () => {
    const claimed = written(claimRecord(scheduled(), claimer, writer), 20n);
    expect(claimed.claim).toMatchObject({
      dispatcherId: "d1",
      dispatcherEpoch: 7n,
      dispatchEpoch: 20n,
      round: 9n,
    });
    expect(claimed.record).toMatchObject({ requestId: "r", retryTimeMs: 0n, attemptId: "attempt" });
    expect(claimed.conference).toMatchObject({ state: Conference_State.CLAIMED, attempt: 1 });
    const active = written(
      dispatchRecord(claimed, dispatch, 1_000, Dispatch_MoveReason.UNSPECIFIED, writer),
      21n,
    );
    expect(active.claim?.dispatchEpoch).toBe(20n);
    expect(toTask(claimed, 1_000)).toMatchObject({
      conferenceId: "c1",
      dispatchEpoch: 20n,
      attempt: 1,
      weight: 3,
    });
  });

  it("by a claim over a void one remembers that one", () => {
    const first = written(claimRecord(scheduled(), claimer, writer), 20n);
    const second = written(claimRecord(first, { ...claimer, dispatcherId: "d2", epoch: 8n }, writer), 30n);
    expect(second.claim).toMatchObject({ dispatcherId: "d2", dispatchEpoch: 30n });
    expect(second.conference.supersededClaim).toMatchObject({ dispatcherId: "d1", dispatchEpoch: 20n });
    expect(second.conference.attempt).toBe(2);
    expect(first.conference.attempt).toBe(1);
  });

  it("by a dispatch is valid for the grace after the end, and names the server before", () => {
    const active = written(
      dispatchRecord(
        written(claimRecord(scheduled(), claimer, writer), 20n),
        dispatch,
        1_000,
        Dispatch_MoveReason.UNSPECIFIED,
        writer,
      ),
      21n,
    );
    const { dispatch: row } = active.conference;
    expect(row).toMatchObject({ serverId: "s1", epoch: 20n, dispatcherId: "d1", previousServerId: "" });
    expect(row?.validUntil && timestampMs(row.validUntil)).toBe(END_MS + 1_000);
    const moved = written(
      dispatchRecord(
        written(claimRecord(active, claimer, writer), 30n),
        { ...dispatch, serverId: "s2" },
        0,
        Dispatch_MoveReason.DRAIN,
        writer,
      ),
      31n,
    );
    expect(moved.conference.dispatch).toMatchObject({ serverId: "s2", previousServerId: "s1" });
  });

  it.each([
    [Cause.NO_CAPACITY, 1_000, 0, true],
    [Cause.START_FAILED, 1_000, 1, true],
    [Cause.SHUTTING_DOWN, 0, 0, false],
  ])("by a release of cause %i waits %i ms", (cause, delayMs, failedAttempts, failed) => {
    const claimed = written(claimRecord(scheduled(), claimer, writer), 20n);
    const release = create(TaskReleaseSchema, { cause, message: "why" });
    const { conference, record, claim } = written(releaseRecord(claimed, release, 5, writer), 21n);
    expect(conference).toMatchObject({ state: Conference_State.SCHEDULED, failedAttempts });
    expect(claim).toBeUndefined();
    expect(Number(record.retryTimeMs)).toBe(delayMs > 0 ? NOW_MS + delayMs : 0);
    expect(conference.failure?.message).toBe(failed ? "why" : undefined);
  });

  it("by failed starts waits twice as long each time, but never more than a minute", () => {
    let entry = scheduled();
    const delays: number[] = [];
    const release = create(TaskReleaseSchema, { cause: Cause.START_FAILED });
    for (let attempt = 0; attempt < 2_000; attempt++) {
      entry = written(releaseRecord(entry, release, 10_000, writer), 21n);
      delays.push(Number(entry.record.retryTimeMs) - NOW_MS);
    }
    expect(delays.slice(0, 8)).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    expect(delays.at(-1)).toBe(60_000);
  });
});
