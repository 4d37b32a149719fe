import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readCalendar } from "./ical.ts";
import { readProperty } from "./property.ts";
import { BudgetError, createBudget, expandRule } from "./recurrence.ts";
import { readRule } from "./recurrence-rule.ts";

const DAY_MS = 86_400_000;

function expand(rule: string, startMs: number, untilMs: number, fromMs = startMs, steps = 200_000) {
  const parsed = readRule(readProperty({ line: 1, name: "RRULE", bytes: `RRULE:${rule}` }));
  return [...expandRule(parsed, startMs, { fromMs, untilMs }, createBudget(steps))];
}

describe("rules of RFC 5545, §3.8.5.3", () => {
  // All begin on Tuesday, 2 September 1997, unless said otherwise.
  const start = Date.UTC(1997, 8, 2, 9);
  const days = (rule: string, count: number, startMs = start) =>
    expand(rule, startMs, startMs + 20_000 * DAY_MS)
      .slice(0, count)
      .map((ms) => new Date(ms).toISOString().slice(0, 10));

  it.each([
    ["every other day", "FREQ=DAILY;INTERVAL=2", ["1997-09-02", "1997-09-04", "1997-09-06"]],
    [
      "weeks from Sunday",
      "FREQ=WEEKLY;INTERVAL=2;COUNT=4;WKST=SU;BYDAY=TU,TH",
      ["1997-09-02", "1997-09-04", "1997-09-16", "1997-09-18"],
    ],
    [
      "the third to the last day of the month",
      "FREQ=MONTHLY;BYMONTHDAY=-3",
      ["1997-09-28", "1997-10-29", "1997-11-28", "1997-12-29"],
    ],
    [
      "every Tuesday, every other month",
      "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
      ["1997-09-02", "1997-09-09", "1997-09-16", "1997-09-23", "1997-09-30", "1997-11-04"],
    ],
    [
      "Friday the 13th",
      "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
      ["1998-02-13", "1998-03-13", "1998-11-13", "1999-08-13", "2000-10-13"],
    ],
    [
      "the third Tuesday, Wednesday or Thursday",
      "FREQ=MONTHLY;BYDAY=TU,WE,TH;BYSETPOS=3",
      ["1997-09-04", "1997-10-07", "1997-11-06"],
    ],
    [
      "the last work day but one",
      "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
      ["1997-09-29", "1997-10-30", "1997-11-27", "1997-12-30"],
    ],
    [
      "the 1st, 100th and 200th day",
      "FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200",
      ["2000-01-01", "2000-04-09", "2000-07-18", "2003-01-01"],
    ],
    ["the 20th Monday of the year", "FREQ=YEARLY;BYDAY=20MO", ["1998-05-18", "1999-05-17", "2000-05-15"]],
    ["Monday of week 20", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", ["1998-05-11", "1999-05-17", "2000-05-15"]],
    [
      "week 1, on the start's day of the week",
      "FREQ=YEARLY;BYWEEKNO=1",
      ["1997-12-30", "1999-01-05", "2000-01-04"],
    ],
    [
      "days that some months lack",
      "FREQ=MONTHLY;BYMONTHDAY=31",
      ["1997-10-31", "1997-12-31", "1998-01-31", "1998-03-31"],
    ],
    ["a yearly day of every month", "FREQ=YEARLY;BYMONTHDAY=13", ["1997-09-13", "1997-10-13", "1997-11-13"]],
    [
      "weekly by position, whatever day it begins",
      "FREQ=WEEKLY;BYDAY=MO,FR;BYSETPOS=1",
      ["1997-09-08", "1997-09-15"],
    ],
  ])("%s", (_, rule, expected) => {
    expect(days(rule, expected.length)).toEqual(expected);
  });

  it("29 February comes every four years, but not in 1900 or 2100", () => {
    expect(days("FREQ=YEARLY", 3, Date.UTC(1896, 1, 29))).toEqual(["1896-02-29", "1904-02-29", "1908-02-29"]);
  });

  it("hours, minutes and seconds", () => {
    const times = (rule: string) =>
      expand(rule, start, start + 2 * DAY_MS).map((ms) => new Date(ms).toISOString().slice(8, 19));
    expect(times("FREQ=HOURLY;INTERVAL=3;COUNT=3")).toEqual(["02T09:00:00", "02T12:00:00", "02T15:00:00"]);
    expect(times("FREQ=MINUTELY;INTERVAL=90;COUNT=3")).toEqual(["02T09:00:00", "02T10:30:00", "02T12:00:00"]);
    expect(times("FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,30;COUNT=5")).toEqual([
      "02T09:00:00",
      "02T09:30:00",
      "02T10:00:00",
      "02T10:30:00",
      "03T09:00:00",
    ]);
    expect(times("FREQ=HOURLY;BYMINUTE=15,45;BYSETPOS=-1;COUNT=3")).toEqual(["02T09:45:00", "02T10:45:00"]);
    expect(times("FREQ=SECONDLY;BYHOUR=9;BYMINUTE=59;BYSECOND=58,59")).toEqual([
      "02T09:59:58",
      "02T09:59:59",
      "03T09:59:58",
      "03T09:59:59",
    ]);
  });
});

describe("a window", () => {
  it("gives what expanding everything gives in it", () => {
    const rules = [
      "FREQ=DAILY;INTERVAL=3",
      "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU;WKST=SU",
      "FREQ=MONTHLY;INTERVAL=5;BYDAY=-1FR",
      "FREQ=YEARLY;INTERVAL=3;BYMONTH=1,12",
      "FREQ=HOURLY;INTERVAL=7;BYDAY=TU",
      "FREQ=WEEKLY;BYDAY=TU,TH;BYSETPOS=2",
    ];
    const day = fc.integer({ min: 0, max: 4_000 });
    fc.assert(
      fc.property(
        fc.constantFrom(...rules),
        day,
        day,
        fc.integer({ min: 0, max: 200 }),
        (rule, startDay, offset, length) => {
          const startMs = Date.UTC(2015, 0, 1, 10, 30) + startDay * DAY_MS;
          const fromMs = startMs + offset * DAY_MS;
          const untilMs = fromMs + length * DAY_MS;
          const inWindow = (times: readonly number[]) => times.filter((ms) => ms >= fromMs);
          expect(inWindow(expand(rule, startMs, untilMs, fromMs))).toEqual(
            inWindow(expand(rule, startMs, untilMs)),
          );
        },
      ),
    );
  });

  it("far from the start costs no more than one near to it", () => {
    const from = Date.UTC(2030, 0, 1);
    expect(expand("FREQ=SECONDLY;INTERVAL=30", 0, from + 60_000, from, 10)).toContain(from);
  });

  it("with a rule that never stops to be counted ends with an error", () => {
    expect(() => expand("FREQ=DAILY;COUNT=1000000", 0, Number.MAX_SAFE_INTEGER, 0, 5_000)).toThrow(
      BudgetError,
    );
  });
});

describe("simple weekly rules in a zone with daylight saving", () => {
  const formatted = new Intl.DateTimeFormat("sv-SE", {
    timeZone: "Europe/Berlin",
    dateStyle: "short",
    timeStyle: "short",
  });
  const names = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];

  it("are what walking from day to day with a local calendar finds", async () => {
    const weekly = fc.record({
      startDay: fc.integer({ min: 0, max: 700 }),
      // The hours that clocks skip or repeat have tests of their own.
      hour: fc.integer({ min: 4, max: 23 }),
      interval: fc.integer({ min: 1, max: 4 }),
      weekdays: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1 }),
      weeks: fc.integer({ min: 1, max: 60 }),
    });
    await fc.assert(
      fc.asyncProperty(weekly, async ({ startDay, hour, interval, weekdays, weeks }) => {
        const startMs = Date.UTC(2030, 0, 1) + startDay * DAY_MS;
        const stamp = (ms: number) => new Date(ms).toISOString().slice(0, 10).replaceAll("-", "");
        const time = `${String(hour).padStart(2, "0")}0000`;
        const endMs = startMs + weeks * 7 * DAY_MS;
        const text = [
          "BEGIN:VCALENDAR",
          "BEGIN:VEVENT",
          "UID:x",
          `DTSTART;TZID=Europe/Berlin:${stamp(startMs)}T${time}`,
          "DURATION:PT1H",
          `RRULE:FREQ=WEEKLY;INTERVAL=${interval};UNTIL=${stamp(endMs)};BYDAY=${weekdays.map((day) => names[day])}`,
          "END:VEVENT",
          "END:VCALENDAR",
        ].join("\n");
        const range = { fromMs: Date.UTC(2030, 0, 1), untilMs: Date.UTC(2035, 0, 1) };
        const { instances, problems } = await readCalendar(Buffer.from(text), { file: "x", ...range });
        expect(problems).toEqual([]);
        const mondayMs = startMs - ((new Date(startMs).getUTCDay() + 6) % 7) * DAY_MS;
        const expected: string[] = [];
        for (let day = startMs; day <= endMs; day += DAY_MS) {
          const week = Math.floor((day - mondayMs) / (7 * DAY_MS));
          const fits = week % interval === 0 && weekdays.includes(new Date(day).getUTCDay());
          if (fits || day === startMs)
            expected.push(`${new Date(day).toISOString().slice(0, 10)} ${time.slice(0, 2)}:00`);
        }
        expect(instances.map((instance) => formatted.format(instance.startMs))).toEqual(expected);
      }),
    );
  });
});
