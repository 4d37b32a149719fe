import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { statusError } from "../../../common/rpc/status.ts";
import { timestampFromMs } from "../../../common/time.ts";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { createCannedControlPlane } from "../../../test/support/cli-control-plane.ts";
import { runCli } from "../run-cli.ts";

const NOW_MS = Date.UTC(2030, 0, 1);

async function run(args: string | readonly string[], refuse?: (id: string) => Error | undefined) {
  const plane = createCannedControlPlane({
    conferences: ["a", "b", "c", "c0"].map((conferenceId) => ({ conferenceId })),
    servers: [
      { serverId: "s1" },
      { serverId: "s2" },
      { serverId: "s3", conferenceCount: 163, cordoned: true, drain: { conferenceCount: 200 } },
    ],
    brake: { engaged: true, failingServers: 10, servers: 20, allowedServers: 6, heldServerIds: ["s1", "s2"] },
    ...(refuse ? { refuse } : {}),
  });
  const cli = createTestCliContext({ transport: plane.transport });
  const exitCode = await runCli(cli.context, typeof args === "string" ? args.split(" ") : args);
  const { created, changed } = plane;
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr(), created, changed };
}

describe("moving things to another state", () => {
  test.each([
    ["cancel a", "conference/a cancelled\n", ["cancel a"]],
    ["cancel conference a b", "conference/a cancelled\nconference/b cancelled\n", ["cancel a", "cancel b"]],
    ["end conf a a", "conference/a ended\n", ["end a"]],
    ["requeue a", "conference/a requeued\n", ["requeue a"]],
    ["cordon server s1 s2", "server/s1 cordoned\nserver/s2 cordoned\n", ["cordon s1", "cordon s2"]],
    ["uncordon s1", "server/s1 uncordoned\n", ["uncordon s1"]],
    [
      "uncordon s3",
      "server/s3 uncordoned, its drain is cancelled and 163 conferences stay\n",
      ["uncordon s3"],
    ],
    ["remove server s1 s2", "server/s1 removed\nserver/s2 removed\n", ["remove s1", "remove s2"]],
    [
      "release-brake --for 2m",
      "brake released until 2030-01-01T00:05:00Z; it held back s1, s2\n",
      ["release-brake 120000 ms"],
    ],
  ])("%s", async (args, stdout, changed) => {
    expect(await run(args)).toMatchObject({ exitCode: 0, stdout, stderr: "", changed });
  });

  test("prints the things as they are afterwards when asked to", async () => {
    expect(JSON.parse((await run("cancel a -o json")).stdout)).toEqual({
      conferenceId: "a",
      state: "STATE_CANCELLED",
    });
    expect((await run("cordon s1 s2 -o yaml")).stdout).toBe(
      "servers:\n  - serverId: s1\n    cordoned: true\n  - serverId: s2\n    cordoned: true\n",
    );
  });

  test("goes on after one that fails, and tells which did", async () => {
    const refused = statusError(Code.FailedPrecondition, ErrorReason.STATE_CONFLICT, "b is ENDED");
    expect(await run("cancel a b c", (id) => (id === "b" ? refused : undefined))).toMatchObject({
      exitCode: 3,
      stdout: "conference/a cancelled\nconference/c cancelled\n",
      stderr: "error: 2 of 3 done\n  b: b is ENDED\n",
    });
  });

  test("tries no more when the control plane is gone, and tells what was not tried", async () => {
    const gone = new ConnectError("no connection", Code.Unavailable);
    const ids = Array.from({ length: 40 }, (_, index) => `c${index}`);
    const { exitCode, changed, stdout, stderr } = await run(["cancel", ...ids], (id) =>
      id === "c0" ? undefined : gone,
    );
    expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: "conference/c0 cancelled\n" });
    expect(changed).toHaveLength(17);
    expect(stderr).toContain(
      "error: 1 of 40 done\n  c1: cannot reach the control plane at 127.0.0.1:7400\n    no connection\n",
    );
    expect(stderr).toMatch(/ {2}not tried: c17 .* c39\n$/);
    expect(await run("cancel b c", () => gone)).toMatchObject({ exitCode: 4, changed: ["cancel b"] });
  });

  test("needs an ID behind the kind", async () => {
    expect(await run("cancel conference")).toMatchObject({ exitCode: 2, changed: [] });
  });
});

describe("removing a server", () => {
  test("that hosts conferences says what to do", async () => {
    const inUse = statusError(
      Code.FailedPrecondition,
      ErrorReason.SERVER_IN_USE,
      "server s1 is named by 3 dispatches",
    );
    expect(await run("remove s1", () => inUse)).toMatchObject({
      exitCode: 1,
      stderr:
        "error: server s1 is named by 3 dispatches\nhint: `convoke drain ID` moves what it hosts, `convoke get dispatches --server ID` lists it\n",
    });
  });

  test("that is not known succeeds, and says so to those who mistyped", async () => {
    expect(await run("remove s9")).toMatchObject({
      exitCode: 0,
      stdout: "server/s9 removed\n",
      stderr: "warning: there was no server s9\n",
    });
  });
});

test.each([
  ["release-brake --for 2h", "Write a duration from 1s to 1h"],
  ["release-brake now", "too many arguments"],
])("%s is refused before anything is called", async (args, message) => {
  const { exitCode, stderr, changed } = await run(args);
  expect({ exitCode, changed }).toEqual({ exitCode: 2, changed: [] });
  expect(stderr).toContain(message);
});

describe("create conference", () => {
  test("sends what was given, and the contract's defaults otherwise", async () => {
    const args =
      "create conference standup --start +10m --duration 15m --participants 12 --weight 20 --region eu --request-id r1";
    const labels = ["--require-label", "gpu=yes", "--require-label", "zone=a", "--avoid-label", "old="];
    const { exitCode, stdout, created } = await run([
      ...args.split(" "),
      "--name",
      "Daily standup",
      ...labels,
    ]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: "conference/standup created\n" });
    expect(created).toMatchObject([
      {
        requestId: "r1",
        conference: {
          conferenceId: "standup",
          displayName: "Daily standup",
          startTime: timestampFromMs(NOW_MS + 600_000),
          endTime: timestampFromMs(NOW_MS + 1_500_000),
          expectedParticipants: 12,
          weight: 20,
          region: "eu",
          requiredLabels: { gpu: "yes", zone: "a" },
          preferredLabels: {},
          avoidedLabels: { old: "" },
        },
      },
    ]);
  });

  test("starts now and prints the ID it was given", async () => {
    const { stdout, created } = await run("create conference --end +1h");
    expect(stdout).toBe("conference/made-up created\n");
    expect(created[0]?.conference?.startTime).toEqual(timestampFromMs(NOW_MS));
  });

  test("prints the conference when asked to", async () => {
    expect(JSON.parse((await run("create conference x --duration 1h -o json")).stdout)).toEqual({
      conferenceId: "x",
      startTime: "2030-01-01T00:00:00Z",
      endTime: "2030-01-01T01:00:00Z",
      state: "STATE_SCHEDULED",
    });
  });

  test.each([
    ["create conference x", "when is it to end?"],
    ["create conference x --end -1h", "the end must come after the start"],
    ["create conference x --end +1h --duration 1h", "cannot be used with"],
    ["create conference x --duration 0s", "Write a duration from 1s"],
    ["create conference x --duration 1h --weight 0", "Write a whole number from 1 to 100000"],
    ["create conference x --duration 1h --require-label gpu", "Write key=value"],
    ["create conference x y --duration 1h", "too many arguments"],
  ])("%s is refused before anything is called", async (args, message) => {
    const { exitCode, stderr, created } = await run(args);
    expect({ exitCode, created }).toEqual({ exitCode: 2, created: [] });
    expect(stderr).toContain(message);
  });

  test("lists what the control plane finds wrong, field by field", async () => {
    const violations = [
      { field: "conference.conference_id", description: "must be 1 to 63 of a-z 0-9 - . _" },
      { field: "conference.region", description: "must be at most 63 bytes long" },
    ];
    const refused = statusError(Code.InvalidArgument, ErrorReason.INVALID_FIELD, "2 violations", {
      violations,
    });
    expect(await run("create conference X --duration 1h", () => refused)).toMatchObject({
      exitCode: 2,
      stderr:
        "error: the control plane refused the request\n  conference.conference_id must be 1 to 63 of a-z 0-9 - . _\n  conference.region must be at most 63 bytes long\n",
    });
  });
});
