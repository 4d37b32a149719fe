import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { CliError } from "../cli-error.ts";
import { ExitCode } from "../exit-code.ts";
import { dispatcherCommand } from "./dispatcher.ts";

/** Runs the command with its signal already aborted: what is right starts, and stops at once. */
async function run(args: string, env: Record<string, string> = {}) {
  const cli = createTestCliContext({ env });
  cli.abort.abort(new Error("enough"));
  const command: Command = dispatcherCommand(cli.context)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  await command.parseAsync(["--log-level", "silent", ...args.split(" ")], { from: "user" });
  return command.opts();
}

test("an ID is enough", async () => {
  expect(await run("--id d1")).toMatchObject({
    id: "d1",
    window: 600_000,
    tick: 1_000,
    ttl: 5_000,
    weight: 1,
  });
});

test("everything else can be told", async () => {
  const options = await run(
    "--id d1 --endpoint 127.0.0.1:1 --window 1h30m --tick 500ms --ttl 10s --weight 3 --label zone=a --label rack=7 --start-rate 12.5 --metrics 127.0.0.1:0",
  );
  expect(options).toMatchObject({
    endpoint: "127.0.0.1:1",
    window: 5_400_000,
    tick: 500,
    ttl: 10_000,
    weight: 3,
    label: { zone: "a", rack: "7" },
    startRate: 12.5,
    metrics: "127.0.0.1:0",
  });
});

describe("what is wrong ends it before anything starts", () => {
  test.each([
    ["a tick that is too short", "--id d1 --tick 10ms", "from 100ms to 1m"],
    ["a time to live without a unit", "--id d1 --ttl 5", "such as 500ms"],
    ["a weight of none", "--id d1 --weight 0", "from 1 to 1000"],
    ["a rate of none", "--id d1 --start-rate 0", "from 0.1 to 1000000"],
    ["a bad label", "--id d1 --label zone", "key=value"],
    ["a bad address", "--id d1 --endpoint here", "host:port"],
  ])("%s", async (_, args, message) => {
    await expect(run(args)).rejects.toThrow(message);
  });

  test("no ID", async () => {
    await expect(run("--tick 1s")).rejects.toThrow("--id");
  });

  test.each([
    ["a bad ID", "--id D1", {}, "not a dispatcher ID"],
    ["a bad address of metrics", "--id d1 --metrics 9300", {}, "not an address"],
    ["a bad label in the environment", "--id d1", { CONVOKE_LABELS: "zone=a,zone=b" }, "given twice"],
  ])("%s, as a mistake in the command line", async (_, args, env, message) => {
    const failure = await run(args, env).catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(CliError);
    expect(failure).toMatchObject({ exitCode: ExitCode.usage });
    expect(String(failure)).toContain(message);
  });
});
