import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ConferenceService } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { createMemoryConferences, type MemoryConferences } from "../../../test/support/memory-conferences.ts";
import { runCli } from "../run-cli.ts";

let directory: string;
let memory: MemoryConferences;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "convoke-import-"));
  memory = createMemoryConferences();
});
afterEach(() => rm(directory, { recursive: true }));

// The test context's clock stands at 2030-01-01T00:00:00Z.
const event = (uid: string, start: string, ...more: readonly string[]) => [
  "BEGIN:VEVENT",
  `UID:${uid}`,
  `DTSTART:${start}`,
  "DURATION:PT1H",
  ...more,
  "END:VEVENT",
];
const calendar = (...events: readonly (readonly string[])[]) =>
  ["BEGIN:VCALENDAR", ...events.flat(), "END:VCALENDAR", ""].join("\r\n");
const team = calendar(
  event("a", "20300102T090000Z", "SUMMARY:Daily", "RRULE:FREQ=DAILY;COUNT=40"),
  event("b", "20300103T090000Z"),
  ["BEGIN:VEVENT", "UID:c", "DTSTART;VALUE=DATE:20300103", "END:VEVENT"],
);
const broken = calendar(event("a", "20300102T090000Z"), event("x", "tomorrow"));

async function file(name: string, content: string) {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

async function run(args: readonly string[], options: { stdin?: string; terminal?: boolean } = {}) {
  const transport = createRouterTransport(({ service }) => service(ConferenceService, memory.impl));
  const cli = createTestCliContext({
    transport,
    ...(options.stdin === undefined ? {} : { stdin: options.stdin }),
  });
  const context = { ...cli.context, isTty: { ...cli.context.isTty, stderr: options.terminal ?? false } };
  const exitCode = await runCli(context, ["import", ...args]);
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr() };
}

describe("convoke import", () => {
  it("schedules the next 30 days of a calendar; again, nothing changes", async () => {
    const path = await file("team.ics", team);
    expect(await run([path])).toEqual({
      exitCode: 0,
      stdout: "30 conferences: 30 created, 0 updated, 0 unchanged, 0 cancelled; skipped 1 all-day event\n",
      stderr: "",
    });
    expect((await run([path])).stdout).toContain("0 created, 0 updated, 30 unchanged, 0 cancelled");
    expect(memory.conferences.size).toBe(30);
  });

  it("takes days, times and times from now for the range", async () => {
    const path = await file("team.ics", team);
    const planned = async (...args: string[]) => {
      const { stdout } = await run([path, "--dry-run", "-o", "json", ...args]);
      return (JSON.parse(stdout) as { conferences: unknown[] }).conferences.length;
    };
    expect(await planned("--until", "+2d")).toBe(1);
    expect(await planned("--from", "2030-01-03", "--until", "2030-01-05")).toBe(3);
    expect(await planned("--from", "2030-01-03T09:00:01Z", "--until", "2030-01-05")).toBe(1);
    // That day begins in Honolulu at 10:00 in UTC.
    expect(
      await planned("--from", "2030-01-03", "--until", "2030-01-04", "--timezone", "Pacific/Honolulu"),
    ).toBe(1);
    expect(memory.conferences.size).toBe(0);
  });

  it("prints nothing but the summary for programs", async () => {
    const path = await file("team.ics", team);
    const { stdout, stderr } = await run([path, "-o", "json"], { terminal: true });
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({
      conferences: 30,
      created: 30,
      updated: 0,
      unchanged: 0,
      cancelled: 0,
      rejected: 0,
      skippedAllDay: 1,
      skippedZeroLength: 0,
      problems: [],
      rejections: [],
    });
  });

  it("stops at a problem before anything is sent, and says where it is", async () => {
    const [good, bad] = [await file("good.ics", team), await file("bad.ics", broken)];
    expect(await run([good, bad])).toEqual({
      exitCode: 1,
      stdout: "",
      stderr:
        `${bad}:9: DTSTART: not a date or date-time\n` +
        "error: 1 problem in the input; nothing was imported\n" +
        "hint: mend the input, or import the rest with --keep-going\n",
    });
    const { exitCode, stdout } = await run([bad, "-o", "json"]);
    expect([exitCode, JSON.parse(stdout)]).toMatchObject([1, { problems: [{ file: bad, line: 9 }] }]);
    expect(memory.conferences.size).toBe(0);
  });

  it("imports the rest with --keep-going, and exits with 3", async () => {
    const bad = await file("bad.ics", broken);
    const { exitCode, stdout, stderr } = await run([bad, join(directory, "missing.ics"), "--keep-going"]);
    expect(exitCode).toBe(3);
    expect(stdout).toBe("1 conference: 1 created, 0 updated, 0 unchanged, 0 cancelled\n");
    expect(stderr).toContain(`${bad}:9: DTSTART`);
    expect(stderr).toContain(
      `${join(directory, "missing.ics")}:1: cannot be read: ENOENT: no such file or directory\n`,
    );
    expect(stderr).toContain("error: 2 problems in the input; the rest was imported");
  });

  it("reads JSON Lines and calendars from standard input, and tells them apart", async () => {
    const line =
      '{"conferenceId":"j1","startTime":"2035-01-01T00:00:00Z","endTime":"2035-01-01T01:00:00Z"}\n';
    expect((await run(["-"], { stdin: line })).stdout).toMatch(/^1 conference: 1 created/);
    expect((await run(["-"], { stdin: team })).stdout).toMatch(/^30 conferences: 30 created/);
    const mixed = await run(["-", "--keep-going"], { stdin: `${line}{]\n` });
    expect(mixed).toMatchObject({ exitCode: 3, stdout: expect.stringContaining("1 unchanged") });
    expect(mixed.stderr).toMatch(/^-:2: not JSON: /);
    expect((await run(["-", "--format", "ics"], { stdin: line })).stderr).toMatch(/^-:1: /);
    expect(memory.conferences.size).toBe(31);
  });

  it("reports what the control plane refuses, and exits with 3 when there was more", async () => {
    const path = await file(
      "long.ics",
      calendar(event("a", "20300102T090000Z"), [
        "BEGIN:VEVENT",
        "UID:l",
        "DTSTART:20300102T090000Z",
        "DURATION:P9D",
        "END:VEVENT",
      ]),
    );
    const { exitCode, stdout, stderr } = await run([path]);
    expect(exitCode).toBe(3);
    expect(stdout).toMatch(/1 created.*1 rejected/);
    expect(stderr).toMatch(
      /long\.ics:7: cal-\w+: end_time must be within 7 days of start_time\nerror: the control plane refused 1 conference\n$/,
    );
  });

  it("says what is wrong with its options", async () => {
    const path = await file("team.ics", team);
    const failure = async (...args: string[]) => {
      const { exitCode, stderr } = await run([path, ...args]);
      return `${exitCode} ${stderr.split("\n")[0]}`;
    };
    expect(await failure("--from", "2030-02-30")).toBe('2 error: --from: "2030-02-30" is no time');
    expect(await failure("--until", "-1d")).toBe("2 error: --until must be after --from");
    expect(await failure("--timezone", "Mars/Olympus")).toBe(
      '2 error: --timezone: unknown time zone "Mars/Olympus"',
    );
    expect(await failure("--format", "xml")).toMatch(
      /^2 error: option '--format <format>' argument 'xml' is invalid/,
    );
  });

  it("fails with the call's error when the control plane refuses the call", async () => {
    const path = await file("team.ics", team);
    memory.failNext(new ConnectError("not for you", Code.PermissionDenied));
    expect(await run([path])).toMatchObject({ exitCode: 1, stdout: "", stderr: "error: not for you\n" });
  });

  it("ends without a trace on the terminal when it shows progress", async () => {
    const { stderr } = await run([await file("team.ics", team)], { terminal: true });
    expect(stderr === "" || stderr.endsWith("\r\x1b[K")).toBe(true);
  });
});
