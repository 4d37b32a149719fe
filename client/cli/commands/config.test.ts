import { expect, test } from "vitest";
import { compileDetection, toDetection } from "../../../common/detection.ts";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import {
  type CannedControlPlaneOptions,
  createCannedControlPlane,
} from "../../../test/support/cli-control-plane.ts";
import { runCli } from "../run-cli.ts";

async function run(args: string, held?: CannedControlPlaneOptions) {
  const cli = createTestCliContext(held ? { transport: createCannedControlPlane(held).transport } : {});
  const exitCode = await runCli(cli.context, args.split(" "));
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr() };
}

test("explains a profile without a control plane, with the formulas and the numbers in them", async () => {
  const { exitCode, stdout } = await run("config explain --detection lan --servers 20");
  expect(exitCode).toBe(0);
  expect(`\n${stdout}`).toMatchInlineSnapshot(`
    "
    Failure detection, profile lan, as planned.

    SETTING           VALUE   WHAT
    probe-interval    1s      how often an observer probes a server that answers
    probe-timeout     750ms   how long a probe may take
    probe-retry       100ms   how soon a failed probe is followed by the next
    refusals          2       refusals in a row that make an observer call a server failed
    timeouts          3       failures in a row, timeouts among them, that do
    successes         2       answers in a row that make an observer call it well again
    observers         3       how many dispatchers observe each server
    settle            150ms   how long servers that fail together are waited for
    detection-grace   2s      how long whoever has just begun calls nothing dead
    brake-fraction    0.333   the part of the servers that may fail within the window
    brake-window      60s     the window of the brake

    a server that refuses connections is DOWN, typically, after: 250ms
        = (refusals − 1) × probe-retry + settle
        = (2 − 1) × 100ms + 150ms
    a server that refuses connections is DOWN, at the latest, after: 1.35s
        = probe-interval × 1.1 + (refusals − 1) × probe-retry + settle
        = 1s × 1.1 + (2 − 1) × 100ms + 150ms
    a silent server is SUSPECT and gets no new conferences, at the latest, after: 1.85s
        = probe-interval × 1.1 + probe-timeout
        = 1s × 1.1 + 750ms
    a silent server is DOWN, at the latest, after: 3.7s
        = probe-interval × 1.1 + timeouts × probe-timeout + (timeouts − 1) × probe-retry + settle
        = 1s × 1.1 + 3 × 750ms + (3 − 1) × 100ms + 150ms
    an agent that hears nobody stops its conferences after: 7.4s
        = 2 × (probe-interval × 1.1 + timeouts × probe-timeout + (timeouts − 1) × probe-retry + settle)
        = 2 × (1s × 1.1 + 3 × 750ms + (3 − 1) × 100ms + 150ms)

    a server that was DOWN and answers again is held for 10s, the second time for 60s, and then for 5m;
        after 5m UP it begins anew
    the brake engages when more servers fail within 60s than may: of 20 servers 6 may fail
        = max(1, floor(servers × brake-fraction)), 0 of a single server
        = max(1, floor(20 × 0.333)), 0 of a single server
    "
  `);
});

test("calculates with single settings on top of a profile", async () => {
  const { stdout } = await run(
    "config explain --detection wan --probe-interval 1s --brake-fraction 50% -o json",
  );
  const { profile, settings, times, brake } = JSON.parse(stdout);
  expect(profile).toBe("wan");
  expect(settings).toMatchObject({ probeInterval: "1s", probeTimeout: "2.500s", brakeFraction: 0.5 });
  expect(times).toContainEqual(
    expect.objectContaining({
      name: "silenceLongest",
      numbers: "1s × 1.1 + 4 × 2.5s + (4 − 1) × 500ms + 1s",
      milliseconds: 13_600,
    }),
  );
  expect(brake.allowances).toContainEqual({ servers: 10, allowed: 5 });
});

test("explains what the control plane has in force, for the servers it has", async () => {
  const held = {
    detection: toDetection(compileDetection({ profile: "wan", refusals: 3 })),
    brake: { servers: 9, engaged: true },
  };
  const { exitCode, stdout } = await run("config explain --endpoint 10.0.0.1:7400", held);
  expect(exitCode).toBe(0);
  expect(stdout).toContain("profile wan, as the control plane at 10.0.0.1:7400 has them.");
  expect(stdout).toContain("    = (3 − 1) × 500ms + 1s\n");
  expect(stdout).toContain("of 9 servers 3 may fail\n");
  expect(stdout).toContain("it is engaged now");
});

test.each([
  ["config explain --probe-interval 5ms", "--probe-interval must be from 100 to 60000, not 5 ms"],
  ["config explain --brake-fraction 2", "Write a part above 0 and at most 1"],
  ["config explain --brake-fraction 1/0", "Write a part above 0 and at most 1"],
  ["config explain --detection moon", "Allowed choices are lan, wan"],
  ["config explain --detection lan --endpoint 10.0.0.1:7400", "planning options go without --endpoint"],
])("%s is refused", async (args, message) => {
  const { exitCode, stdout, stderr } = await run(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toContain(message);
});
