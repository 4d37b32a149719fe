import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { readCalendar } from "./ical.ts";

const year = { fromMs: Date.UTC(2030, 0, 1), untilMs: Date.UTC(2031, 0, 1) };

async function read(file: string) {
  const url = new URL(`../../test/fixtures/calendars/${file}`, import.meta.url);
  return readCalendar(await readFile(url), { file, ...year });
}

function times(calendar: Awaited<ReturnType<typeof read>>) {
  return calendar.instances.map(
    ({ displayName, startMs, endMs, cancelled }) =>
      `${new Date(startMs).toISOString().slice(0, 16)}/${(endMs - startMs) / 60_000} ${displayName}${cancelled ? " (cancelled)" : ""}`,
  );
}

describe("calendars in the style of", () => {
  it("Google: weekly over a clock change, with an instance moved, one called off and one excluded", async () => {
    const calendar = await read("google.ics");
    expect(calendar.problems).toEqual([]);
    expect(times(calendar)).toEqual([
      "2030-03-18T08:00/45 Wöchentliche Runde, Team A",
      "2030-03-20T12:00/30 Once",
      "2030-03-26T13:00/45 Moved to Tuesday",
      "2030-04-01T07:00/45 Wöchentliche Runde, Team A",
      "2030-04-08T07:00/45 Called off (cancelled)",
      "2030-04-22T07:00/45 Wöchentliche Runde, Team A",
      "2030-04-29T07:00/45 Wöchentliche Runde, Team A",
    ]);
    expect(calendar.skipped).toEqual({ allDay: 1, zeroLength: 0 });
    // Ada, organizer and attendee, and Ben; Cem has declined, and a room is no participant.
    expect(calendar.instances[0]).toMatchObject({ expectedParticipants: 2, weight: 2 });
    expect(calendar.instances[2]).toMatchObject({ expectedParticipants: 1, seriesId: "weekly@example.org" });
  });

  it("Outlook: Windows zone names with and without a VTIMEZONE, CR LF, tabs in folds, rules since 1601", async () => {
    const calendar = await read("outlook.ics");
    expect(calendar.problems).toEqual([]);
    expect(times(calendar)).toEqual([
      "2030-01-25T09:00/60 Month's end",
      "2030-02-22T09:00/60 Month's end",
      "2030-03-11T15:30/30 West coast",
      "2030-03-29T09:00/60 Month's end",
      "2030-04-26T08:00/60 Month's end",
      "2030-05-31T08:00/60 Month's end",
      "2030-06-28T08:00/60 Month's end",
    ]);
    expect(calendar.skipped.allDay).toBe(1);
    expect(calendar.instances[0]?.expectedParticipants).toBe(2);
  });

  it("Apple: properties in any order, COUNT with an exclusion, floating times in X-WR-TIMEZONE", async () => {
    const calendar = await read("apple.ics");
    expect(calendar.problems).toEqual([]);
    expect(times(calendar)).toEqual([
      "2030-03-06T22:00/60 Piano",
      "2030-03-13T23:00/60 Piano (late)",
      "2030-03-15T13:00/30 Floating",
      "2030-03-27T21:00/60 Piano",
    ]);
    expect(calendar.skipped).toEqual({ allDay: 0, zeroLength: 1 });
  });
});
