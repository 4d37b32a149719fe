import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { CliError } from "../cli-error.ts";
import { ExitCode } from "../exit-code.ts";
import { agentCommand } from "./agent.ts";

/** Runs the command with its signal already aborted: what is right starts, and stops at once. */
async function run(args: readonly string[], env: Record<string, string> = {}) {
  const cli = createTestCliContext({ env });
  cli.abort.abort(new Error("enough"));
  const command: Command = agentCommand(cli.context)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  await command.parseAsync(["--log-level", "silent", ...args], { from: "user" });
  return command.opts();
}

test("an ID and a capacity are enough", async () => {
  expect(await run(["--id", "s1", "--capacity", "10"])).toMatchObject({
    id: "s1",
    capacity: 10,
    driver: "loopback",
    listen: "127.0.0.1:0",
  });
});

test("everything else can be told", async () => {
  const options = await run([
    ..."--id s1 --capacity 10 --driver loopback --listen 127.0.0.1:0 --advertise s1.example.org:0".split(" "),
    ..."--rooms-listen 127.0.0.1:0 --rooms-advertise rooms.example.org:0 --region eu".split(" "),
    ..."--label zone=a --label gpu=yes --endpoint 127.0.0.1:1 --isolation keep --exit-when-drained".split(
      " ",
    ),
    ..."--drain-deadline 1m --drain-timeout 2m --restart-within 10s --move-linger 500ms".split(" "),
  ]);
  expect(options).toMatchObject({
    advertise: "s1.example.org:0",
    roomsListen: "127.0.0.1:0",
    roomsAdvertise: "rooms.example.org:0",
    region: "eu",
    label: { zone: "a", gpu: "yes" },
    isolation: "keep",
    exitWhenDrained: true,
    drainDeadline: 60_000,
    drainTimeout: 120_000,
    restartWithin: 10_000,
    moveLinger: 500,
  });
});

describe("what is wrong ends it before anything starts", () => {
  test.each([
    ["no ID", ["--capacity", "10"], "--id"],
    ["no capacity", ["--id", "s1"], "--capacity"],
    ["a capacity of none", ["--id", "s1", "--capacity", "0"], "from 1 to 1000000000"],
    ["an unknown driver", ["--id", "s1", "--capacity", "1", "--driver", "phone"], "loopback"],
    ["a bad address", ["--id", "s1", "--capacity", "1", "--listen", "here"], "host:port"],
    ["a bad label", ["--id", "s1", "--capacity", "1", "--label", "zone"], "key=value"],
  ])("%s", async (_, args, message) => {
    await expect(run(args)).rejects.toThrow(message);
  });

  test.each([
    ["a bad ID", ["--id", "S1", "--capacity", "1"], {}, "id: write 1 to 63"],
    [
      "a drain with less time than its deadline",
      [..."--id s1 --capacity 1 --drain-deadline 2m --drain-timeout 1m".split(" ")],
      {},
      "drainTimeoutMs:",
    ],
    [
      "a room server on another machine",
      [..."--id s1 --capacity 1 --room-server 192.0.2.1:7600".split(" ")],
      {},
      "roomServer:",
    ],
    [
      "a room server and an address for rooms",
      [..."--id s1 --capacity 1 --room-server 127.0.0.1:7600 --rooms-listen 127.0.0.1:0".split(" ")],
      {},
      "roomServer:",
    ],
    ["all interfaces", ["--id", "s1", "--capacity", "1", "--listen", ":7500"], {}, "advertise:"],
    [
      "a bad label in the environment",
      ["--id", "s1", "--capacity", "1"],
      { CONVOKE_LABELS: "a=1,b" },
      "key=value",
    ],
  ])("%s is a mistake of the command line", async (_, args, env, message) => {
    const error = await run(args, env).catch((err: unknown) => err);
    expect(error).toBeInstanceOf(CliError);
    expect(error).toMatchObject({
      message: expect.stringContaining(message),
      exitCode: ExitCode.usage,
    });
  });
});

test("its help names every option with its environment variable", () => {
  const help = agentCommand(createTestCliContext().context)
    .configureHelp({ helpWidth: 240 })
    .helpInformation();
  for (const name of ["ID", "CAPACITY", "DRIVER", "LISTEN", "ADVERTISE", "ROOMS_LISTEN", "ROOMS_ADVERTISE"])
    expect(help).toContain(`env: CONVOKE_${name}`);
  for (const name of ["ROOM_SERVER", "ISOLATION", "RESTART_WITHIN", "DRAIN_DEADLINE", "DRAIN_TIMEOUT"])
    expect(help).toContain(`env: CONVOKE_${name}`);
  for (const name of ["EXIT_WHEN_DRAINED", "MOVE_LINGER"]) expect(help).toContain(`env: CONVOKE_${name}`);
  for (const name of ["REGION", "LABELS", "ENDPOINT", "LOG_LEVEL"])
    expect(help).toContain(`env: CONVOKE_${name}`);
});
