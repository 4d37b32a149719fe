import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { readProperty } from "../../client/import/property.ts";
import { createBudget, expandRule } from "../../client/import/recurrence.ts";
import { readRule } from "../../client/import/recurrence-rule.ts";
import { DEBIAN_HOOK_TIMEOUT_MS, ensureDebianPackages } from "../support/debian.ts";

const RULES = 200;
/** Another one looks at other rules. */
const SEED = 5545;
const MOST = 30;
const UNTIL_MS = Date.UTC(2021, 11, 31);

const weekdays = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/**
 * Rules of one to seven parts, on starts that need not fit them. Left out is what python3-dateutil reads otherwise than
 * RFC 5545 has it:
 * - BYSETPOS in weekly rules: it counts from DTSTART in the first week, not from that week's beginning;
 * - BYWEEKNO without BYDAY: it takes all days of the week, not the one of DTSTART;
 * - COUNT where DTSTART does not fit the rule: it does not count DTSTART.
 */
const arbitraryCase = fc
  .record({
    freq: fc.constantFrom("DAILY", "WEEKLY", "MONTHLY", "YEARLY"),
    interval: fc.integer({ min: 1, max: 4 }),
    weekStart: fc.constantFrom(...weekdays),
    months: list(fc.integer({ min: 1, max: 12 })),
    monthDays: list(signed(31)),
    yearDays: list(signed(366)),
    weekNumbers: list(signed(53)),
    days: list(fc.constantFrom(...weekdays)),
    nth: fc.option(signed(4), { nil: undefined }),
    hours: list(fc.integer({ min: 0, max: 23 })),
    minutes: list(fc.integer({ min: 0, max: 59 })),
    position: fc.option(signed(3), { nil: undefined }),
    parts: fc.subarray([
      "months",
      "monthDays",
      "yearDays",
      "weekNumbers",
      "days",
      "nth",
      "hours",
      "minutes",
      "position",
    ] as const),
    startMinute: fc.integer({ min: 0, max: 2 * 366 * 24 * 60 }),
  })
  .map((given) => {
    const { freq, parts } = given;
    const has = (part: (typeof parts)[number]) => parts.includes(part);
    const rule = [`FREQ=${freq}`, `INTERVAL=${given.interval}`, `WKST=${given.weekStart}`];
    if (has("months")) rule.push(`BYMONTH=${given.months}`);
    if (has("monthDays") && freq !== "WEEKLY") rule.push(`BYMONTHDAY=${given.monthDays}`);
    const byWeek = has("weekNumbers") && has("days") && freq === "YEARLY";
    if (byWeek) rule.push(`BYWEEKNO=${given.weekNumbers}`);
    else if (has("yearDays") && freq === "YEARLY") rule.push(`BYYEARDAY=${given.yearDays}`);
    const counted =
      has("nth") && !byWeek && (freq === "MONTHLY" || freq === "YEARLY") ? given.nth : undefined;
    if (has("days")) rule.push(`BYDAY=${given.days.map((day) => `${counted ?? ""}${day}`)}`);
    if (has("hours")) rule.push(`BYHOUR=${given.hours}`);
    if (has("minutes")) rule.push(`BYMINUTE=${given.minutes}`);
    const isFiltered = rule.length > 3;
    if (has("position") && isFiltered && freq !== "WEEKLY" && given.position !== undefined)
      rule.push(`BYSETPOS=${given.position}`);
    return { rule: rule.join(";"), start: Date.UTC(2015, 0, 1) + given.startMinute * 60_000 };
  });

function list<T>(item: fc.Arbitrary<T>) {
  return fc.uniqueArray(item, { minLength: 1, maxLength: 3 });
}

function signed(max: number) {
  return fc.tuple(fc.integer({ min: 1, max }), fc.boolean()).map(([n, back]) => (back ? -n : n));
}

beforeAll(() => ensureDebianPackages(["python3-dateutil"]), DEBIAN_HOOK_TIMEOUT_MS);

it(`python3-dateutil and we find the same times for ${RULES} random rules`, {
  timeout: 300_000,
}, async () => {
  const cases = fc.sample(arbitraryCase, { numRuns: RULES, seed: SEED });
  const script = fileURLToPath(new URL("../fixtures/calendars/reference_rules.py", import.meta.url));
  const input = JSON.stringify(cases.map((one) => ({ ...one, until: UNTIL_MS, most: MOST })));
  const python = promisify(execFile)("/usr/bin/python3", ["-W", "ignore", script], { maxBuffer: 2 ** 26 });
  python.child.stdin?.end(input);
  const expected = JSON.parse((await python).stdout) as number[][];
  for (const [index, { rule, start }] of cases.entries()) {
    const parsed = readRule(readProperty({ line: 1, name: "RRULE", bytes: `RRULE:${rule}` }));
    const window = { fromMs: start, untilMs: UNTIL_MS };
    const ours: number[] = [];
    for (const ms of expandRule(parsed, start, window, createBudget(10_000_000))) {
      if (ours.length === MOST) break;
      ours.push(ms);
    }
    const iso = (times: readonly number[] = []) => times.map((ms) => new Date(ms).toISOString());
    expect(iso(ours), `seed ${SEED}: ${rule} from ${new Date(start).toISOString()}`).toEqual(
      iso(expected[index]),
    );
  }
});
