import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readComponents } from "./components.ts";
import { ianaZone } from "./iana-zone.ts";
import { readTimeZone } from "./vtimezone.ts";
import { windowsZone, windowsZoneNames } from "./windows-zones.ts";
import { instantOf, localOf, type Zone } from "./zone.ts";
import { createZoneNames } from "./zone-finder.ts";

const HOUR_MS = 3_600_000;

function iana(name: string): Zone {
  const zone = ianaZone(name);
  if (!zone) throw new Error(`no zone ${name}`);
  return zone;
}

function vtimezone(...lines: readonly string[]): Zone {
  const text = [
    "BEGIN:VCALENDAR",
    "BEGIN:VTIMEZONE",
    "TZID:x",
    ...lines,
    "END:VTIMEZONE",
    "END:VCALENDAR",
  ].join("\n");
  const component = readComponents(Buffer.from(text)).calendars[0]?.components[0];
  if (!component) throw new Error("no VTIMEZONE");
  return readTimeZone(component).zone;
}

const newYork = vtimezone(
  "BEGIN:DAYLIGHT",
  "DTSTART:20070311T020000",
  "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=2SU",
  "TZOFFSETFROM:-0500",
  "TZOFFSETTO:-0400",
  "END:DAYLIGHT",
  "BEGIN:STANDARD",
  "DTSTART:20071104T020000",
  "RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=1SU",
  "TZOFFSETFROM:-0400",
  "TZOFFSETTO:-0500",
  "END:STANDARD",
);

describe.each([
  ["the IANA database", iana("America/New_York")],
  ["a VTIMEZONE", newYork],
])("instants of local times by %s", (_, zone) => {
  const instant = (localMs: number) => new Date(instantOf(zone, localMs)).toISOString().slice(0, 16);

  it("a time that the clock skips is read with the offset before", () => {
    expect(instant(Date.UTC(2030, 2, 10, 1, 59))).toBe("2030-03-10T06:59");
    expect(instant(Date.UTC(2030, 2, 10, 2, 30))).toBe("2030-03-10T07:30");
    expect(instant(Date.UTC(2030, 2, 10, 3, 0))).toBe("2030-03-10T07:00");
  });

  it("a time that occurs twice is the first", () => {
    expect(instant(Date.UTC(2030, 10, 3, 0, 59))).toBe("2030-11-03T04:59");
    expect(instant(Date.UTC(2030, 10, 3, 1, 30))).toBe("2030-11-03T05:30");
    expect(instant(Date.UTC(2030, 10, 3, 2, 0))).toBe("2030-11-03T07:00");
  });
});

describe("zones", () => {
  it("of a VTIMEZONE and of the IANA database agree at every instant", () => {
    const database = iana("America/New_York");
    fc.assert(
      fc.property(fc.integer({ min: Date.UTC(2008, 0, 1), max: Date.UTC(2060, 0, 1) }), (utcMs) => {
        expect(newYork.offsetMsAt(utcMs)).toBe(database.offsetMsAt(utcMs));
      }),
    );
  });

  it("give back the instant of every local time that they show, but for the hour that occurs twice", () => {
    const names = [
      "Europe/Berlin",
      "Australia/Lord_Howe",
      "America/St_Johns",
      "Asia/Kathmandu",
      "Pacific/Apia",
      "Africa/Casablanca",
    ];
    const arbitraryInstant = fc.integer({ min: Date.UTC(1995, 0, 1), max: Date.UTC(2036, 0, 1) });
    fc.assert(
      fc.property(fc.constantFrom(...names), arbitraryInstant, (name, utcMs) => {
        const zone = iana(name);
        const back = instantOf(zone, localOf(zone, utcMs));
        if (back !== utcMs) expect(localOf(zone, back)).toBe(localOf(zone, utcMs));
        expect(back).toBeLessThanOrEqual(utcMs);
      }),
      { numRuns: 300 },
    );
  });

  it("change at the very millisecond", () => {
    const change = Date.UTC(2030, 2, 31, 1);
    expect(iana("Europe/Berlin").offsetMsAt(change - 1)).toBe(HOUR_MS);
    expect(iana("Europe/Berlin").offsetMsAt(change)).toBe(2 * HOUR_MS);
  });

  it("of a VTIMEZONE begin with the earliest offset, and reach as far as they are asked for", () => {
    expect(newYork.offsetMsAt(Date.UTC(1950, 6, 1))).toBe(-5 * HOUR_MS);
    expect(newYork.offsetMsAt(Date.UTC(2150, 6, 1))).toBe(-4 * HOUR_MS);
    expect(newYork.offsetMsAt(Date.UTC(2010, 0, 1))).toBe(-5 * HOUR_MS);
  });

  it("of a VTIMEZONE end their rules at UNTIL, and take RDATEs", () => {
    const zone = vtimezone(
      "BEGIN:DAYLIGHT",
      "DTSTART:20300331T020000",
      "RRULE:FREQ=YEARLY;UNTIL=20310330T010000Z;BYMONTH=3;BYDAY=-1SU",
      "TZOFFSETFROM:+0100",
      "TZOFFSETTO:+0200",
      "END:DAYLIGHT",
      "BEGIN:STANDARD",
      "DTSTART:20301027T030000",
      "RDATE:20311026T030000",
      "TZOFFSETFROM:+0200",
      "TZOFFSETTO:+0100",
      "END:STANDARD",
    );
    const summers = [2030, 2031, 2032].map((year) => zone.offsetMsAt(Date.UTC(year, 6, 1)) / HOUR_MS);
    expect(summers).toEqual([2, 2, 1]);
    expect(zone.offsetMsAt(Date.UTC(2031, 11, 1))).toBe(HOUR_MS);
  });

  it("have names in the IANA database for every name of Windows", () => {
    for (const name of windowsZoneNames())
      expect([name, ianaZone(windowsZone(name) ?? "")]).toEqual([name, expect.anything()]);
  });

  it("are found at the end of a path, and nowhere when nobody knows them", () => {
    const names = createZoneNames();
    const utcMs = Date.UTC(2030, 6, 1);
    expect(names.find("/example.org/2005_1/America/Argentina/Ushuaia")?.offsetMsAt(utcMs)).toBe(-3 * HOUR_MS);
    expect(names.find("/example.org/Europe/Paris")?.offsetMsAt(utcMs)).toBe(2 * HOUR_MS);
    expect(names.find("W. Europe Standard Time")?.offsetMsAt(utcMs)).toBe(2 * HOUR_MS);
    expect(names.find("Nowhere/Land")).toBeUndefined();
    expect(names.find("constructor")).toBeUndefined();
  });
});
