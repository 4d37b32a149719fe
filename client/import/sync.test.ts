import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../common/clock.ts";
import { timestampMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { createMemoryConferences } from "../../test/support/memory-conferences.ts";
import { readCalendar } from "./ical.ts";
import type { ImportProblem } from "./problem.ts";
import { syncCalendar } from "./sync.ts";
import { type ImportItem, upsertConferences } from "./upsert.ts";

const range = { fromMs: Date.UTC(2030, 0, 1), untilMs: Date.UTC(2030, 1, 1) };
const daily = ["UID:d", "DTSTART:20300102T090000Z", "DURATION:PT1H"];

function calendar(...events: readonly (readonly string[])[]): string {
  const lines = events.flatMap((event) => ["BEGIN:VEVENT", ...event, "END:VEVENT"]);
  return ["BEGIN:VCALENDAR", ...lines, "END:VCALENDAR"].join("\n");
}

function setUp() {
  const memory = createMemoryConferences();
  const transport = createRouterTransport(({ service }) => service(ConferenceService, memory.impl));
  const rejected: ImportProblem[] = [];
  const options = {
    client: createClient(ConferenceService, transport),
    clock: systemClock,
    signal: new AbortController().signal,
    onRejected: (problem: ImportProblem) => void rejected.push(problem),
  };
  const sync = async (text: string) =>
    syncCalendar(await readCalendar(Buffer.from(text), { file: "x.ics", ...range }), range, options);
  const standing = () =>
    [...memory.conferences.values()]
      .filter(({ state }) => state !== Conference_State.CANCELLED)
      .map(({ startTime }) => (startTime ? new Date(timestampMs(startTime)).toISOString().slice(5, 13) : ""))
      .sort();
  return { memory, sync, standing, rejected, options };
}

const none = { created: 0, updated: 0, unchanged: 0, cancelled: 0, rejected: 0 };

describe("syncCalendar", () => {
  it("schedules the instances; doing it again changes nothing", async () => {
    const { memory, sync, standing } = setUp();
    const text = calendar([
      ...daily,
      "RRULE:FREQ=DAILY;COUNT=3",
      "SUMMARY:Daily",
      "ATTENDEE:mailto:a@x",
      "ATTENDEE:mailto:b@x",
    ]);
    expect(await sync(text)).toEqual({ ...none, created: 3 });
    expect(standing()).toEqual(["01-02T09", "01-03T09", "01-04T09"]);
    expect([...memory.conferences.values()][0]).toMatchObject({
      displayName: "Daily",
      seriesId: "d",
      expectedParticipants: 2,
      weight: 2,
    });
    expect(await sync(text)).toEqual({ ...none, unchanged: 3 });
  });

  it("moves what was moved, also out of the range and back", async () => {
    const { sync, standing } = setUp();
    const series = [...daily, "RRULE:FREQ=DAILY;COUNT=3"];
    const moved = (to: string) => [
      "UID:d",
      "RECURRENCE-ID:20300103T090000Z",
      `DTSTART:${to}`,
      "DURATION:PT1H",
    ];
    await sync(calendar(series));
    expect(await sync(calendar(series, moved("20300103T150000Z")))).toEqual({
      ...none,
      updated: 1,
      unchanged: 2,
    });
    expect(standing()).toEqual(["01-02T09", "01-03T15", "01-04T09"]);
    expect(await sync(calendar(series, moved("20300303T150000Z")))).toEqual({
      ...none,
      updated: 1,
      unchanged: 2,
    });
    expect(standing()).toEqual(["01-02T09", "01-04T09", "03-03T15"]);
    expect(await sync(calendar(series, moved("20300303T150000Z")))).toEqual({ ...none, unchanged: 2 });
    expect(await sync(calendar(series))).toEqual({ ...none, updated: 1, unchanged: 2 });
    expect(standing()).toEqual(["01-02T09", "01-03T09", "01-04T09"]);
  });

  it("cancels what was called off, excluded, or is no longer in the rule; and takes it back", async () => {
    const { sync, standing } = setUp();
    const series = [...daily, "RRULE:FREQ=DAILY;COUNT=5"];
    await sync(calendar(series));
    const cancelled = [
      "UID:d",
      "RECURRENCE-ID:20300103T090000Z",
      "DTSTART:20300103T090000Z",
      "DURATION:PT1H",
      "STATUS:CANCELLED",
    ];
    const shorter = calendar([...daily, "RRULE:FREQ=DAILY;COUNT=4", "EXDATE:20300104T090000Z"], cancelled);
    expect(await sync(shorter)).toEqual({ ...none, unchanged: 2, cancelled: 3 });
    expect(standing()).toEqual(["01-02T09", "01-05T09"]);
    expect(await sync(shorter)).toEqual({ ...none, unchanged: 2 });
    expect(await sync(calendar(series))).toEqual({ ...none, updated: 3, unchanged: 2 });
  });

  it("leaves alone what is of other series, outside of the range, or over", async () => {
    const { memory, sync } = setUp();
    await sync(calendar(["UID:other", ...daily.slice(1)]));
    const before = ["UID:d", "DTSTART:20300102T090000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=2"];
    await sync(calendar(before));
    const [first] = [...memory.conferences.values()].filter(({ seriesId }) => seriesId === "d");
    memory.setState(first?.conferenceId ?? "", Conference_State.ENDED);
    expect(await sync(calendar(["UID:d", "DTSTART;VALUE=DATE:20300110"]))).toEqual({ ...none, cancelled: 1 });
    const states = [...memory.conferences.values()].map(
      ({ seriesId, state }) => `${seriesId} ${Conference_State[state]}`,
    );
    expect(states).toEqual(["other SCHEDULED", "d ENDED", "d CANCELLED"]);
  });

  it("does not cancel instances of a series with an event that could not be read", async () => {
    const { sync, standing } = setUp();
    await sync(calendar([...daily, "RRULE:FREQ=DAILY;COUNT=2"]));
    const shorter = [...daily, "RRULE:FREQ=DAILY;COUNT=2", "EXDATE:20300103T090000Z"];
    const broken = ["UID:d", "RECURRENCE-ID:20300103T090000Z", "DTSTART:someday"];
    expect(await sync(calendar(shorter, broken))).toEqual({ ...none, unchanged: 1 });
    expect(standing()).toHaveLength(2);
    // Without the broken event it is known that the second instance is gone.
    expect(await sync(calendar(shorter))).toEqual({ ...none, unchanged: 1, cancelled: 1 });
  });

  it("never schedules what was called off before it was known", async () => {
    const { memory, sync } = setUp();
    expect(await sync(calendar([...daily, "STATUS:CANCELLED"]))).toEqual(none);
    expect(memory.conferences.size).toBe(0);
  });

  it("reports what the control plane refuses, with its line, and schedules the rest of the batch", async () => {
    const { sync, rejected } = setUp();
    const long = ["UID:long", "DTSTART:20300102T090000Z", "DURATION:P8D"];
    expect(await sync(calendar(daily, long))).toEqual({ ...none, created: 1, rejected: 1 });
    expect(rejected).toEqual([
      {
        file: "x.ics",
        line: 7,
        reason: expect.stringMatching(/^cal-\w+: end_time must be within 7 days of start_time$/),
      },
    ]);
  });

  it("tries again while the control plane is away, and fails at once on other errors", async () => {
    const { memory, sync } = setUp();
    memory.failNext(
      new ConnectError("restarting", Code.Unavailable),
      new ConnectError("restarting", Code.Unavailable),
    );
    expect(await sync(calendar(daily))).toEqual({ ...none, created: 1 });
    memory.failNext(new ConnectError("no", Code.PermissionDenied));
    await expect(sync(calendar(daily))).rejects.toThrow("no");
  });
});

describe("upsertConferences", () => {
  const items = (count: number): ImportItem[] =>
    Array.from({ length: count }, (_, n) => ({
      conference: {
        conferenceId: `c-${n}`,
        startTime: { seconds: 1_900_000_000n, nanos: 0 },
        endTime: { seconds: 1_900_003_600n, nanos: 0 },
      },
      file: "x",
      line: n + 1,
    }));

  it("sends batches of at most 500 and reports as it goes", async () => {
    const { memory, options } = setUp();
    const progress: number[] = [];
    await upsertConferences(items(1_201), {
      ...options,
      onProgress: ({ created = 0 }) => void progress.push(created),
    });
    expect([...memory.batches].sort()).toEqual([201, 500, 500]);
    expect(progress.reduce((a, b) => a + b, 0)).toBe(1_201);
    expect(memory.conferences.size).toBe(1_201);
  });

  it("stops with the signal's reason", async () => {
    const { memory, options } = setUp();
    const reason = new Error("enough");
    const signal = AbortSignal.abort(reason);
    await expect(upsertConferences(items(2), { ...options, signal })).rejects.toBe(reason);
    expect(memory.conferences.size).toBe(0);
  });

  it("passes on what the source of the conferences throws", async () => {
    const { options } = setUp();
    const source = async function* () {
      yield* items(3);
      throw new Error("cut off");
    };
    await expect(upsertConferences(source(), options)).rejects.toThrow("cut off");
  });
});
