import { describe, expect, it } from "vitest";
import { readCalendar } from "./ical.ts";

const good = ["BEGIN:VEVENT", "UID:good", "DTSTART:20300101T090000Z", "DURATION:PT1H", "END:VEVENT"];

async function read(lines: readonly string[], fromMs = Date.UTC(2030, 0, 1), untilMs = Date.UTC(2031, 0, 1)) {
  const { instances, problems, seriesIds } = await readCalendar(Buffer.from(lines.join("\r\n")), {
    file: "team.ics",
    fromMs,
    untilMs,
  });
  return {
    problems: problems.map(({ file, line, reason }) => `${file}:${line}: ${reason}`),
    names: [...new Set(instances.map(({ seriesId }) => seriesId))],
    seriesIds: [...seriesIds],
  };
}

/** Line 1 is BEGIN:VCALENDAR, line 2 the event's BEGIN, line 3 its UID, line 4 the first of `lines`. */
const broken = (...lines: readonly string[]) => [
  "BEGIN:VCALENDAR",
  "BEGIN:VEVENT",
  "UID:bad",
  ...lines,
  "END:VEVENT",
  ...good,
  "END:VCALENDAR",
];

describe("a broken event is a problem at its line, and the others are read", () => {
  const start = "DTSTART:20300101T090000Z";
  const cases: [string, readonly string[], string][] = [
    ["a line without a colon", [start, "what is this"], '5: not a content line: "what is this"'],
    ["no DTSTART", ["SUMMARY:x"], "2: VEVENT without a DTSTART"],
    ["a date that is none", ["DTSTART:tomorrow"], "4: DTSTART: not a date or date-time"],
    [
      "a day that does not exist",
      ["DTSTART:20300230T090000Z"],
      "4: DTSTART: there is no such day as 2030-02-30",
    ],
    [
      "a time that does not exist",
      ["DTSTART:20300201T250000Z"],
      "4: DTSTART: there is no such time as 25:00:00",
    ],
    [
      "an unknown zone",
      ["DTSTART;TZID=Customized Time Zone:20300101T090000"],
      '4: unknown time zone "Customized Time Zone", and the file has no VTIMEZONE for it',
    ],
    [
      "an end before the start",
      [start, "DTEND:20300101T080000Z"],
      "5: DTEND: the event ends before it starts",
    ],
    ["a duration that is none", [start, "DURATION:1 hour"], "5: DURATION: not a duration"],
    ["a rule without FREQ", [start, "RRULE:COUNT=3"], "5: RRULE: FREQ is missing"],
    [
      "a rule with a part nobody knows",
      [start, "RRULE:FREQ=DAILY;BYEASTER=0"],
      "5: RRULE: the part BYEASTER is not supported",
    ],
    ["EXRULE", [start, "EXRULE:FREQ=DAILY"], "5: EXRULE is not supported"],
    ["an open quote", ['DTSTART;TZID="Europe/Berlin:20300101T090000'], "4: DTSTART: invalid line"],
  ];
  it.each(cases)("%s", async (_, lines, expected) => {
    const { problems, names, seriesIds } = await read(broken(...lines));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(`team.ics:${expected}`);
    expect(names).toEqual(["good"]);
    // What is known of a series with a broken event is not all there is, so nothing of it may be called deleted.
    expect(seriesIds).toEqual(["good"]);
  });

  it("folded lines count as the lines they are", async () => {
    const { problems } = await read(broken("SUMMARY:a", " b", " c", "DTSTART:x"));
    expect(problems).toEqual(["team.ics:7: DTSTART: not a date or date-time"]);
  });

  it("no UID", async () => {
    const { problems } = await read([
      "BEGIN:VCALENDAR",
      "BEGIN:VEVENT",
      start,
      "END:VEVENT",
      ...good,
      "END:VCALENDAR",
    ]);
    expect(problems).toEqual(["team.ics:2: VEVENT without a UID"]);
  });

  it("a missing END", async () => {
    const { problems, names } = await read([
      "BEGIN:VCALENDAR",
      "BEGIN:VEVENT",
      "UID:bad",
      start,
      ...good,
      "END:VCALENDAR",
    ]);
    expect(problems).toEqual(["team.ics:2: VEVENT has no END"]);
    expect(names).toEqual(["good"]);
  });

  it("a broken VTIMEZONE is a problem of its own; the zone of that name in the IANA database serves", async () => {
    const { problems, names } = await read([
      "BEGIN:VCALENDAR",
      "BEGIN:VTIMEZONE",
      "TZID:Europe/Berlin",
      "BEGIN:STANDARD",
      "DTSTART:19701025T030000",
      "TZOFFSETFROM:+0200",
      "TZOFFSETTO:one hour",
      "END:STANDARD",
      "END:VTIMEZONE",
      ...good.map((line) =>
        line.replace("DTSTART:20300101T090000Z", "DTSTART;TZID=Europe/Berlin:20300101T090000"),
      ),
      "END:VCALENDAR",
    ]);
    expect(problems).toEqual(["team.ics:7: TZOFFSETTO: not an offset such as +0100"]);
    expect(names).toEqual(["good"]);
  });

  it("different events under one UID", async () => {
    const { problems } = await read([
      "BEGIN:VCALENDAR",
      ...good,
      ...good.map((line) => line.replace("20300101", "20300105")),
      "END:VCALENDAR",
    ]);
    expect(problems).toEqual(['team.ics:7: the UID "good" is that of line 2 too']);
  });
});

describe("a file that is cut off or no calendar", () => {
  it("gives the events before the cut", async () => {
    const { problems, names } = await read(["BEGIN:VCALENDAR", ...good, "BEGIN:VEVENT", "UID:cut"]);
    expect(problems).toEqual(["team.ics:1: VCALENDAR has no END", "team.ics:7: VEVENT has no END"]);
    expect(names).toEqual(["good"]);
  });

  it.each([
    ["empty", [], "team.ics:1: no VCALENDAR: this is not an iCalendar file"],
    ["HTML", ["<html>"], 'team.ics:1: not a content line: "<html>"'],
    ["bare events", good, "team.ics:1: no VCALENDAR: this is not an iCalendar file"],
  ])("%s", async (_, lines, expected) => {
    const { problems, names } = await read(lines);
    expect(problems).toEqual([expected]);
    expect(names).toEqual([]);
  });
});

describe("a rule that asks for too much", () => {
  it.each([
    ["every second for a year", "RRULE:FREQ=SECONDLY"],
    ["a COUNT without an end", "RRULE:FREQ=SECONDLY;COUNT=999999999"],
    ["a filter with a COUNT", "RRULE:FREQ=MINUTELY;COUNT=999999999;BYMONTH=1"],
  ])("%s is a problem", async (_, rule) => {
    const { problems, names, seriesIds } = await read(
      broken("DTSTART:20100101T090000Z", "DURATION:PT1S", rule),
    );
    expect(problems).toEqual(["team.ics:2: the rule takes more than 200000 steps to expand"]);
    expect(names).toEqual(["good"]);
    expect(seriesIds).toEqual(["good"]);
  });

  it("an infinite rule since 1970 is expanded where it is asked for, and impossible ones give nothing", async () => {
    const old = (rule: string) => read(broken("DTSTART:19700101T090000Z", "DURATION:PT1H", rule));
    for (const rule of ["RRULE:FREQ=DAILY", "RRULE:FREQ=MINUTELY;INTERVAL=10", "RRULE:FREQ=HOURLY;BYDAY=MO"])
      expect((await old(rule)).names.toSorted()).toEqual(["bad", "good"]);
    for (const rule of [
      "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
      "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    ]) {
      const { problems, names } = await old(rule);
      expect(problems).toEqual([]);
      expect(names).toEqual(["good"]);
    }
  });
});
