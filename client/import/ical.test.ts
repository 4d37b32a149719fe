import { describe, expect, it } from "vitest";
import { type CalendarOptions, readCalendar } from "./ical.ts";

const HOUR_MS = 3_600_000;

function calendar(...lines: readonly string[]): string {
  return ["BEGIN:VCALENDAR", "VERSION:2.0", ...lines, "END:VCALENDAR", ""].join("\n");
}

function event(...lines: readonly string[]): string {
  return ["BEGIN:VEVENT", ...lines, "END:VEVENT"].join("\n");
}

function read(text: string | Uint8Array, options: Partial<CalendarOptions> = {}) {
  const content = typeof text === "string" ? Buffer.from(text) : text;
  const range = { fromMs: Date.UTC(2030, 0, 1), untilMs: Date.UTC(2031, 0, 1) };
  return readCalendar(content, { file: "x.ics", ...range, ...options });
}

async function starts(text: string, options: Partial<CalendarOptions> = {}) {
  const { instances, problems } = await read(text, options);
  expect(problems).toEqual([]);
  return instances.map(({ startMs }) => new Date(startMs).toISOString().slice(0, 16));
}

const daily = ["UID:d", "DTSTART:20300101T090000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=5"];

describe("identity", () => {
  const idPattern = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;

  it("stays when an instance or a single event is moved", async () => {
    const before = await read(calendar(event(...daily)));
    const after = await read(
      calendar(
        event(...daily),
        event("UID:d", "RECURRENCE-ID:20300103T090000Z", "DTSTART:20300610T120000Z", "DURATION:PT2H"),
      ),
    );
    const ids = (instances: typeof before.instances) =>
      instances.map(({ conferenceId }) => conferenceId).sort();
    expect(ids(after.instances)).toEqual(ids(before.instances));
    expect(new Set(ids(before.instances)).size).toBe(5);
    for (const id of ids(before.instances)) expect(id).toMatch(idPattern);
    const one = await read(calendar(event("UID:s", "DTSTART:20300101T090000Z", "DURATION:PT1H")));
    const moved = await read(calendar(event("UID:s", "DTSTART:20300201T090000Z", "DURATION:PT1H")));
    expect(one.instances[0]?.conferenceId).toBe(moved.instances[0]?.conferenceId);
    // Fixed for ever: another value would schedule everything that is imported twice.
    expect(one.instances[0]?.conferenceId).toBe("cal-zpeaxnoayd4jis7xhm5effifvron4ftejf4lzgq6otcxkx4muvla");
  });

  it("is the same whether an override names its original in UTC, in a zone, or only by its day", async () => {
    const zoned = [
      "UID:z",
      "DTSTART;TZID=Europe/Berlin:20300701T090000",
      "DURATION:PT1H",
      "RRULE:FREQ=DAILY;COUNT=2",
    ];
    const moved = (id: string) =>
      calendar(event(...zoned), event("UID:z", id, "DTSTART:20300702T150000Z", "DURATION:PT1H"));
    const expected = ["2030-07-01T07:00", "2030-07-02T15:00"];
    expect(await starts(moved("RECURRENCE-ID:20300702T070000Z"))).toEqual(expected);
    expect(await starts(moved("RECURRENCE-ID;TZID=Europe/Berlin:20300702T090000"))).toEqual(expected);
    expect(await starts(moved("RECURRENCE-ID;VALUE=DATE:20300702"))).toEqual(expected);
  });

  it("digests a UID that is too long for a series", async () => {
    const { instances, seriesIds } = await read(
      calendar(event(`UID:${"u".repeat(2000)}`, "DTSTART:20300101T090000Z", "DURATION:PT1H")),
    );
    expect(instances[0]?.seriesId).toMatch(/^sha256:/);
    expect(seriesIds.has(instances[0]?.seriesId ?? "")).toBe(true);
  });
});

describe("changed instances", () => {
  it("count where they were moved to, into and out of the range", async () => {
    const text = calendar(
      event(...daily),
      event("UID:d", "RECURRENCE-ID:20300105T090000Z", "DTSTART:20300102T080000Z", "DURATION:PT1H"),
      event("UID:d", "RECURRENCE-ID:20300102T090000Z", "DTSTART:20300105T090000Z", "DURATION:PT1H"),
    );
    const range = { fromMs: Date.UTC(2030, 0, 2), untilMs: Date.UTC(2030, 0, 4) };
    expect(await starts(text, range)).toEqual(["2030-01-02T08:00", "2030-01-03T09:00"]);
    const { elsewhere } = await read(text, range);
    expect(elsewhere.map(({ startMs }) => startMs)).toEqual([Date.UTC(2030, 0, 5, 9)]);
  });

  it("are read without their series, and the last of several versions counts", async () => {
    const version = (sequence: number, hour: string) =>
      event(
        "UID:m",
        "RECURRENCE-ID:20300103T090000Z",
        `DTSTART:20300103T${hour}0000Z`,
        "DURATION:PT1H",
        `SEQUENCE:${sequence}`,
      );
    expect(await starts(calendar(version(2, "12"), version(1, "11"), version(2, "13")))).toEqual([
      "2030-01-03T13:00",
    ]);
  });

  it("with THISANDFUTURE change those that follow, unless these are changed themselves", async () => {
    const { instances, problems } = await read(
      calendar(
        event(...daily, "SUMMARY:old"),
        event(
          "UID:d",
          "RECURRENCE-ID;RANGE=THISANDFUTURE:20300103T090000Z",
          "DTSTART:20300103T100000Z",
          "DURATION:PT2H",
          "SUMMARY:new",
        ),
        event(
          "UID:d",
          "RECURRENCE-ID:20300104T090000Z",
          "DTSTART:20300104T070000Z",
          "DURATION:PT1H",
          "SUMMARY:own",
        ),
      ),
    );
    expect(problems).toEqual([]);
    expect(
      instances.map(
        (i) =>
          `${new Date(i.startMs).toISOString().slice(8, 13)} ${(i.endMs - i.startMs) / HOUR_MS} ${i.displayName}`,
      ),
    ).toEqual(["01T09 1 old", "02T09 1 old", "03T10 2 new", "04T07 1 own", "05T10 2 new"]);
  });

  it("are cancelled by their STATUS, by that of the series, or by a cancellation sent by mail", async () => {
    const override = event(
      "UID:d",
      "RECURRENCE-ID:20300103T090000Z",
      "DTSTART:20300103T090000Z",
      "DURATION:PT1H",
      "STATUS:CONFIRMED",
    );
    const partly = await read(calendar(event(...daily, "STATUS:CANCELLED"), override));
    expect(partly.instances.map(({ cancelled }) => cancelled)).toEqual([true, true, false, true, true]);
    const mailed = await read(calendar("METHOD:CANCEL", event(...daily)));
    expect(mailed.instances.every(({ cancelled }) => cancelled)).toBe(true);
  });
});

describe("dates", () => {
  it("RDATE adds, also periods with a length of their own; EXDATE takes away, also whole days", async () => {
    const { instances } = await read(
      calendar(
        event(
          ...daily,
          "RDATE:20300110T090000Z,20300111T090000Z",
          "RDATE;VALUE=PERIOD:20300112T090000Z/PT3H",
          "EXDATE:20300102T090000Z,20300110T090000Z",
          "EXDATE;VALUE=DATE:20300104",
        ),
      ),
    );
    expect(
      instances.map(
        (i) => `${new Date(i.startMs).toISOString().slice(8, 10)}/${(i.endMs - i.startMs) / HOUR_MS}`,
      ),
    ).toEqual(["01/1", "03/1", "05/1", "11/1", "12/3"]);
  });

  it("DTSTART is the first instance even when the rule misses it, unless UNTIL is before it", async () => {
    const rule = (...more: string[]) =>
      calendar(event("UID:r", "DTSTART:20300101T090000Z", "DURATION:PT1H", ...more));
    // 2030-01-01 is a Tuesday.
    expect(await starts(rule("RRULE:FREQ=WEEKLY;BYDAY=FR;COUNT=3"))).toEqual([
      "2030-01-01T09:00",
      "2030-01-04T09:00",
      "2030-01-11T09:00",
    ]);
    expect(await starts(rule("RDATE:20300201T090000Z"))).toEqual(["2030-01-01T09:00", "2030-02-01T09:00"]);
    expect(await starts(rule("RRULE:FREQ=DAILY;UNTIL=20291231T000000Z"))).toEqual([]);
  });

  it("UNTIL as a date includes that day", async () => {
    const text = calendar(
      event(
        "UID:r",
        "DTSTART;TZID=Asia/Tokyo:20300101T090000",
        "DURATION:PT1H",
        "RRULE:FREQ=DAILY;UNTIL=20300103",
      ),
    );
    expect(await starts(text)).toEqual(["2030-01-01T00:00", "2030-01-02T00:00", "2030-01-03T00:00"]);
  });

  it("a DTEND gives an exact length, a DURATION in days a nominal one, over a clock change", async () => {
    const night = (length: string) =>
      read(
        calendar(
          event("UID:n", "DTSTART;TZID=Europe/Berlin:20300329T120000", length, "RRULE:FREQ=DAILY;COUNT=2"),
        ),
      );
    const hours = async (length: string) =>
      (await night(length)).instances.map(({ startMs, endMs }) => (endMs - startMs) / HOUR_MS);
    expect(await hours("DTEND;TZID=Europe/Berlin:20300330T120000")).toEqual([24, 24]);
    expect(await hours("DURATION:P1D")).toEqual([24, 23]);
    expect(await hours("DURATION:PT24H")).toEqual([24, 24]);
  });

  it("floating times are read in --timezone first", async () => {
    const text = calendar(
      "X-WR-TIMEZONE:America/New_York",
      event("UID:f", "DTSTART:20300101T090000", "DURATION:PT1H"),
    );
    expect(await starts(text)).toEqual(["2030-01-01T14:00"]);
    expect(await starts(text, { timezone: "Tokyo Standard Time" })).toEqual(["2030-01-01T00:00"]);
    await expect(read(text, { timezone: "Mars/Olympus" })).rejects.toThrow(RangeError);
  });

  it("all-day events and those without length are counted and left out, also as changes of an instance", async () => {
    const { instances, skipped } = await read(
      calendar(
        event(...daily),
        event("UID:d", "RECURRENCE-ID:20300103T090000Z", "DTSTART;VALUE=DATE:20300103"),
        event("UID:e", "DTSTART;VALUE=DATE:20300101", "RRULE:FREQ=YEARLY"),
        event("UID:z", "DTSTART:20300101T090000Z", "DTEND:20300101T090000Z"),
      ),
    );
    expect(instances).toHaveLength(4);
    expect(skipped).toEqual({ allDay: 2, zeroLength: 1 });
  });
});

describe("files", () => {
  it("may begin with a byte-order mark, hold several calendars, and fold inside a character", async () => {
    const [head, tail] = ["SUMMARY:Gr", "öße"].map((text) => Buffer.from(text));
    const file = Buffer.concat([
      Buffer.from(
        "\ufeffBEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20300101T090000Z\r\nDURATION:PT1H\r\n",
      ),
      head ?? Buffer.alloc(0),
      tail?.subarray(0, 1) ?? Buffer.alloc(0),
      Buffer.from("\r\n "),
      tail?.subarray(1) ?? Buffer.alloc(0),
      Buffer.from("\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"),
      Buffer.from(calendar(event("UID:2", "DTSTART:20300102T090000Z", "DURATION:PT1H"))),
    ]);
    const { instances, problems } = await read(file);
    expect(problems).toEqual([]);
    expect(instances.map(({ displayName }) => displayName)).toEqual(["Größe", ""]);
  });

  it("in UTF-16 are read", async () => {
    const text = calendar(event("UID:1", "DTSTART:20300101T090000Z", "DURATION:PT1H", "SUMMARY:Größe"));
    const { instances } = await read(
      Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, "utf16le")]),
    );
    expect(instances[0]?.displayName).toBe("Größe");
  });

  it("of many megabytes are read", async () => {
    const description = `DESCRIPTION:${"x".repeat(2_000)}`;
    const events = Array.from({ length: 3_000 }, (_, n) =>
      event(
        `UID:${n}`,
        "DTSTART;TZID=Europe/Berlin:20300101T090000",
        "DURATION:PT1H",
        description,
        "RRULE:FREQ=YEARLY;COUNT=2",
      ),
    );
    const { instances } = await read(calendar(...events));
    expect(instances).toHaveLength(3_000);
  });

  it("can be given up", async () => {
    const events = Array.from({ length: 500 }, (_, n) =>
      event(`UID:${n}`, "DTSTART:20300101T090000Z", "DURATION:PT1H"),
    );
    const reason = new Error("enough");
    await expect(read(calendar(...events), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});
