import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { timestampFromMs, timestampMs } from "../../common/time.ts";
import type { ConferenceRecord } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State, ConferenceSchema } from "../../proto/gen/convoke/v1/conference_pb.js";
import { readConferenceEntry } from "../view/conference-entry.ts";
import { encodeRecord } from "./records.ts";
import {
  isScheduledAs,
  newRecord,
  rescheduleRecord,
  SCHEDULED_FIELDS,
  scheduledConference,
  UPDATABLE_FIELDS,
} from "./schedule.ts";

const NOW_MS = Date.UTC(2030, 0, 1, 12);
const writer = { nowMs: NOW_MS, attemptId: "attempt" };
const given = create(ConferenceSchema, {
  conferenceId: "c1",
  displayName: "one",
  startTime: timestampFromMs(NOW_MS),
  endTime: timestampFromMs(NOW_MS + 60_000),
  expectedParticipants: 5,
  requiredLabels: { a: "1" },
  seriesId: "uid",
  state: Conference_State.ACTIVE,
  attempt: 3,
});

function entryOf(record: ConferenceRecord) {
  const value = encodeRecord(record);
  return readConferenceEntry("c1", {
    key: "k",
    value,
    createRevision: 1n,
    modRevision: 4n,
    version: 1n,
    lease: 0n,
  });
}

describe("what is scheduled", () => {
  it("has defaults filled in and nothing that is output only", () => {
    const scheduled = scheduledConference(given, "");
    expect(scheduled).toMatchObject({
      displayName: "one",
      weight: 5,
      requiredLabels: { a: "1" },
      attempt: 0,
    });
    expect(scheduled.state).toBe(Conference_State.UNSPECIFIED);
    expect(scheduledConference(create(ConferenceSchema), "x").weight).toBe(1);
  });

  it("has an ID from the request when it brings none", () => {
    const nameless = create(ConferenceSchema);
    const first = scheduledConference(nameless, "r1").conferenceId;
    expect(scheduledConference(nameless, "r1").conferenceId).toBe(first);
    expect(scheduledConference(nameless, "r2").conferenceId).not.toBe(first);
    expect(scheduledConference(nameless, "").conferenceId).not.toBe(
      scheduledConference(nameless, "").conferenceId,
    );
  });

  it("is known again after it was stored, and told from every other", () => {
    const scheduled = scheduledConference(given, "");
    const entry = entryOf(newRecord(scheduled, "r", writer));
    expect(isScheduledAs(entry, scheduled)).toBe(true);
    for (const change of [
      { displayName: "two" },
      { endTime: timestampFromMs(NOW_MS + 60_001) },
      { weight: 6 },
      { region: "eu" },
      { requiredLabels: { a: "2" } },
      { avoidedLabels: { a: "1" } },
      { seriesId: "" },
    ]) {
      const other = scheduledConference(create(ConferenceSchema, { ...given, ...change }), "");
      expect(isScheduledAs(entry, other), JSON.stringify(Object.keys(change))).toBe(false);
    }
  });

  it("names every field that can be updated, but the series", () => {
    expect([...UPDATABLE_FIELDS.values()].sort()).toEqual(
      SCHEDULED_FIELDS.filter((field) => field !== "seriesId").sort(),
    );
  });
});

describe("rescheduling", () => {
  const standing = () => {
    const record = newRecord(scheduledConference(given, ""), "r", writer);
    Object.assign(record.conference ?? {}, { failedAttempts: 4, attempt: 6 });
    return record;
  };

  it("changes the fields named, and shares nothing with what was given", () => {
    const other = create(ConferenceSchema, { displayName: "two", requiredLabels: { b: "2" }, region: "eu" });
    const { conference } = rescheduleRecord(
      entryOf(standing()),
      other,
      ["displayName", "requiredLabels"],
      0,
      writer,
    );
    other.requiredLabels.b = "3";
    expect(conference).toMatchObject({
      displayName: "two",
      requiredLabels: { b: "2" },
      region: "",
      attempt: 6,
    });
    expect(conference?.startTime && timestampMs(conference.startTime)).toBe(NOW_MS);
    const without = rescheduleRecord(entryOf(standing()), other, ["endTime"], 0, writer);
    expect(without.conference?.endTime).toBeUndefined();
  });

  it("of a cancelled conference begins anew", () => {
    const record = standing();
    if (record.conference) record.conference.state = Conference_State.CANCELLED;
    const { conference } = rescheduleRecord(entryOf(record), given, SCHEDULED_FIELDS, 0, writer);
    expect(conference).toMatchObject({ state: Conference_State.SCHEDULED, failedAttempts: 0 });
    expect(conference?.claim).toBeUndefined();
    expect(conference?.dispatch).toBeUndefined();
  });
});
