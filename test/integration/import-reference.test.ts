import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readCalendar } from "../../client/import/ical.ts";
import { DEBIAN_HOOK_TIMEOUT_MS, ensureDebianPackages } from "../support/debian.ts";

const run = promisify(execFile);

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Long enough for all of the calendars' own events, which begin in 2011, and for many years of their rules. */
const FROM = "2005-01-01";
const UNTIL = "2027-01-01";

/**
 * Calendars that others wrote, taken from the tests of npm packages; unpacked when the test runs, because they are not
 * ours to hand on. Files that the reference cannot read (test1, 6, 10, 12: events without a start or a UID, or that end
 * before they start) have nothing to be compared with.
 */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "ical@0.8.0": [
    "test/test2.ics", // Lanyrd
    "test/test3.ics", // a television schedule
    "test/test4.ics", // Google Calendar
    "test/test5.ics", // Meetup
    "test/test7.ics", // Apple
    "test/test13.ics", // Exchange, with changed instances
    "test/test14.ics", // ownCloud, with EXDATEs
    "test/test15.ics", // Exchange
    "examples/example_rrule.ics", // Google Calendar, with daylight saving, changed and excluded instances
  ],
  "cal-parser@1.0.2": ["test/ical/mine/test.ics"], // several years of a Google calendar
  "ics-parser@0.1.5": ["test/samples/invite.ics"], // an invitation
};

/** Our own, in other people's styles; the sample has hundreds of instances each fortnight, in seven zones. */
const OWN = ["google.ics", "outlook.ics", "apple.ics"].map((name) => here(`../fixtures/calendars/${name}`));
const SAMPLE = here("../../client/cli/demo/sample.ics");

/** Where the reference is known to be wrong: instances that only it has, or only we have, and why. */
const DIFFERENCES: Readonly<
  Record<string, { reference: readonly string[]; ours: readonly string[]; why: string }>
> = {
  "cal-parser@1.0.2/test/ical/mine/test.ics": {
    reference: ["2019-02-28T00:00:00.000Z"],
    ours: [],
    why: "An instance was moved; its RECURRENCE-ID is in UTC, on another day than in the zone of the series. The reference compares days instead of instants, and keeps the instance where it was too.",
  },
  "ical@0.8.0/test/test3.ics": {
    reference: [],
    ours: [],
    why: "Two events at the same time share one UID, which RFC 5545 does not allow. We keep one of them and report a problem.",
  },
};

type Instance = readonly [uid: string, startMs: number, endMs: number];

let directory: string;
const files = new Map<string, string>();
let reference: Readonly<Record<string, readonly Instance[] | string>>;

beforeAll(async () => {
  await ensureDebianPackages(["python3-recurring-ical-events", "python3-icalendar"]);
  directory = await mkdtemp(join(tmpdir(), "convoke-calendars-"));
  for (const [name, paths] of Object.entries(PACKAGES)) {
    const folder = join(directory, name);
    await run("mkdir", [folder]);
    const { stdout } = await run("npm", ["pack", name, "--silent", "--pack-destination", folder]);
    await run("tar", ["-xzf", join(folder, stdout.trim()), "--strip-components=1", "-C", folder]);
    for (const path of paths) files.set(`${name}/${path}`, join(folder, path));
  }
  for (const file of [...OWN, SAMPLE]) files.set(file.slice(file.lastIndexOf("/") + 1), file);
  const python = [
    "/usr/bin/python3",
    here("../fixtures/calendars/reference.py"),
    FROM,
    UNTIL,
    ...files.values(),
  ];
  const { stdout } = await run(python[0] ?? "", python.slice(1), { maxBuffer: 256 * 1024 * 1024 });
  reference = JSON.parse(stdout) as typeof reference;
}, DEBIAN_HOOK_TIMEOUT_MS);

afterAll(() => rm(directory, { recursive: true, force: true }));

async function read(file: string): Promise<Instance[]> {
  const range = { fromMs: Date.parse(FROM), untilMs: Date.parse(UNTIL) };
  const { instances } = await readCalendar(await readFile(file), { file, ...range });
  return instances.map(({ seriesId, startMs, endMs }) => [seriesId, startMs, endMs]);
}

/** One text for each, in a fixed order. */
const texts = (instances: readonly Instance[]) => instances.map((instance) => instance.join(" ")).sort();
const startsOf = (some: readonly string[]) =>
  some.map((text) => new Date(Number(text.split(" ").at(-2))).toISOString());

describe("python3-recurring-ical-events and we find the same instances in", () => {
  const names = [
    ...Object.entries(PACKAGES).flatMap(([name, paths]) => paths.map((path) => `${name}/${path}`)),
    ...OWN.map((file) => file.slice(file.lastIndexOf("/") + 1)),
    "sample.ics",
  ];
  it.each(names)("%s", async (name) => {
    const file = files.get(name) ?? "";
    const expected = reference[file];
    if (typeof expected !== "object") throw new Error(`the reference cannot read ${name}: ${expected}`);
    const ours = texts(await read(file));
    const theirs = texts(expected);
    const difference = DIFFERENCES[name] ?? { reference: [], ours: [], why: "" };
    const oursSet = new Set(ours);
    const theirsSet = new Set(theirs);
    expect(startsOf(theirs.filter((text) => !oursSet.has(text)))).toEqual(difference.reference);
    expect(startsOf(ours.filter((text) => !theirsSet.has(text)))).toEqual(difference.ours);
    if (difference.why === "") expect(ours).toEqual(theirs);
  });

  it("not all of them empty", () => {
    const total = Object.values(reference).reduce((sum, found) => sum + found.length, 0);
    expect(total).toBeGreaterThan(1_000);
  });
});
