import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import { serveCommand } from "../../bin/serve-command.ts";
import { createProcessGroup } from "../../client/cli/demo/processes.ts";
import { runCli } from "../../client/cli/run-cli.ts";
import { createConvokeClient } from "../../client/transport/client.ts";
import { compileDetection, readDetection } from "../../common/detection.ts";
import { createTestCliContext } from "../support/cli-context.ts";

const PROGRAM = [process.execPath, fileURLToPath(new URL("../../bin/convoke.js", import.meta.url))] as const;
/** Against hanging. */
const START_TIMEOUT_MS = 30_000;

async function refused(...args: string[]) {
  const cli = createTestCliContext();
  const exitCode = await runCli(cli.context, ["serve", ...args], [serveCommand(cli.context)]);
  return { exitCode, stderr: cli.stderr() };
}

describe("the settings of failure detection that `convoke serve` is given", () => {
  afterEach(() => void vi.unstubAllEnvs());

  it("come from the environment and from flags, which come first, and are told to all that register", async () => {
    vi.stubEnv("CONVOKE_DETECTION", "wan");
    vi.stubEnv("CONVOKE_PROBE_INTERVAL", "500ms");
    vi.stubEnv("CONVOKE_TIMEOUTS", "7");
    const directory = await mkdtemp(join(tmpdir(), "convoke-serve-"));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const group = stack.use(createProcessGroup(PROGRAM, directory));
    const listen = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", `embedded:${directory}`];
    const flags = ["--timeouts", "5", "--brake-fraction", "1/4", "--detection-grace", "0s"];
    const serving = group.start("control-plane", ["serve", ...listen, ...flags], "control-plane");
    const { grpc } = await serving.logged("serving", AbortSignal.timeout(START_TIMEOUT_MS));
    const client = createConvokeClient({ endpoint: String(grpc) });
    stack.defer(() => client.close());
    const expected = compileDetection({
      profile: "wan",
      probeIntervalMs: 500,
      timeouts: 5,
      brakeFraction: 0.25,
      graceMs: 0,
    });
    const { detection, brake } = await client.servers.getDetection({});
    expect(readDetection(detection)).toEqual(expected);
    expect(brake).toMatchObject({ engaged: false, servers: 0 });
    const dispatcher = await client.dispatchers.registerDispatcher({ dispatcherId: "d1" });
    expect(readDetection(dispatcher.detection)).toEqual(expected);
    const server = await client.servers.registerServer({
      server: { serverId: "s1", agentAddress: "127.0.0.1:1", capacity: 1, instanceId: "life" },
    });
    expect(readDetection(server.detection)).toEqual(expected);
  });

  it("are refused by the name they were written with", async () => {
    expect(await refused("--probe-timeout", "1h")).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("--probe-timeout must be from 50 to 30000, not 3600000 ms"),
    });
    for (const [flag, value] of [
      ["--detection", "moon"],
      ["--probe-interval", "7"],
      ["--refusals", "0"],
      ["--observers", "101"],
      ["--brake-fraction", "0"],
      ["--move-budget", "0"],
    ] as const) {
      const { exitCode, stderr } = await refused(flag, value);
      expect({ flag, exitCode }).toEqual({ flag, exitCode: 2 });
      expect(stderr).toContain(flag);
    }
  });
});
