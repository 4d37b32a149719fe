import { once } from "node:events";
import { Code, ConnectError } from "@connectrpc/connect";
import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { statusError } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createTestCliContext } from "../../test/support/cli-context.ts";
import { createCli } from "./cli.ts";
import { CliError, InterruptedError } from "./cli-error.ts";
import { type CliContext, writeTo } from "./context.ts";
import { ExitCode } from "./exit-code.ts";
import { parseDuration } from "./options.ts";
import { runCli } from "./run-cli.ts";
import { readVersion } from "./version.ts";

async function run(args: readonly string[], extra?: (context: CliContext) => Promise<void>, env = {}) {
  const cli = createTestCliContext({ env });
  const commands = extra ? [new Command("extra").action(() => extra(cli.context))] : [];
  const exitCode = await runCli(cli.context, args, commands);
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr() };
}

describe("help", () => {
  test("groups the commands and tells the exit codes, on stdout", async () => {
    const { exitCode, stdout, stderr } = await run(["--help"], async () => {});
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/Run a process:\n(?: .*\n)* {2}extra/);
    for (const heading of ["Look:", "Schedule:", "Operate:", "Exit codes:", "Examples:"])
      expect(stdout).toContain(heading);
    for (const code of Object.values(ExitCode)) expect(stdout).toContain(String(code));
  });

  test("is there for every command, and describes every option and argument", async () => {
    const leaves = (command: Command): Command[] => [command, ...command.commands.flatMap(leaves)];
    for (const command of leaves(createCli(createTestCliContext().context))) {
      expect(command.description(), command.name()).not.toBe("");
      for (const option of command.options)
        expect(option.description, `${command.name()} ${option.flags}`).not.toBe("");
      for (const argument of command.registeredArguments)
        expect(argument.description, `${command.name()} ${argument.name()}`).not.toBe("");
    }
  });

  test("comes on stderr when no command was given", async () => {
    expect(await run([])).toMatchObject({ exitCode: 2, stdout: "" });
    expect((await run(["get"])).stderr).toContain("convoke get servers -o yaml");
  });
});

test("--version and version agree with package.json", async () => {
  expect(readVersion()).toMatch(/^\d+\.\d+\.\d+/);
  expect((await run(["--version"])).stdout).toBe(`${readVersion()}\n`);
  expect(JSON.parse((await run(["version", "-o", "json"])).stdout)).toMatchObject({ convoke: readVersion() });
});

describe("usage errors", () => {
  test.each([
    [["gte", "servers"], "(Did you mean get?)", "convoke --help"],
    [["get", "severs"], "(Did you mean servers?)", "convoke get --help"],
    [["get", "servers", "--ouput", "json"], "(Did you mean --output?)", "convoke get servers --help"],
    [
      ["get", "servers", "-o", "xml"],
      "Allowed choices are table, wide, json, yaml",
      "convoke get servers --help",
    ],
    [["get", "servers", "--endpoint", "here"], "Write host:port", "convoke --help"],
    [
      ["get", "conferences", "--state", "gone"],
      "one or more of scheduled, claimed",
      "convoke get conferences",
    ],
    [["get", "conferences", "--limit", "0"], "from 1 to", "convoke get conferences --help"],
    [["cancel"], "missing required argument 'ID'", "convoke cancel --help"],
  ])("%j exit with 2 and say what to write", async (args, message, hint) => {
    const { exitCode, stdout, stderr } = await run(args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(message);
    expect(stderr).toContain(`hint: \`${hint}`);
  });

  test("found by an action are printed too", async () => {
    const { exitCode, stderr } = await run(["extra"], async () => void parseDuration("10"));
    expect(exitCode).toBe(2);
    expect(stderr).toContain("error: Write a number and a unit");
  });
});

describe("what a command throws becomes lines and an exit code", () => {
  test.each<[string, unknown, number, string]>([
    [
      "its own error",
      new CliError("2 of 3 lines read", {
        exitCode: ExitCode.partial,
        details: ["x.ics:7: no DTSTART"],
        hint: "fix it",
      }),
      3,
      "error: 2 of 3 lines read\n  x.ics:7: no DTSTART\nhint: fix it\n",
    ],
    ["a plain error", new Error("cannot listen on :1"), 1, "error: cannot listen on :1\n"],
    [
      "a refusal with a reason",
      statusError(Code.FailedPrecondition, ErrorReason.STATE_CONFLICT, "a is ENDED"),
      1,
      "error: a is ENDED\nhint: `convoke get conference ID` tells its state\n",
    ],
    [
      "a lost store",
      statusError(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, "the store does not answer"),
      4,
      "error: the store does not answer\nhint: the control plane has lost its store; try again, and look at its log\n",
    ],
    [
      "nobody there",
      new ConnectError(
        "No connection established. Last error: Error: connect ECONNREFUSED 10.0.0.1:1. Resolution note: ",
        Code.Unavailable,
      ),
      4,
      "error: cannot reach the control plane at 10.0.0.1:1\n  connect ECONNREFUSED 10.0.0.1:1\nhint: is `convoke serve` running there? Name another with --endpoint or CONVOKE_ENDPOINT\n",
    ],
    [
      "a port of HTTP/1.1",
      new ConnectError(
        "No connection established. Last error: Protocol error (2030-01-01T00:00:00.000Z). Resolution note: ",
        Code.Unavailable,
      ),
      4,
      "error: cannot reach the control plane at 10.0.0.1:1\n  Protocol error (2030-01-01T00:00:00.000Z)\nhint: something else answers there, perhaps the HTTP port (`convoke serve --http`, 7480); give the gRPC port (`--listen`, 7400)\n",
    ],
    [
      "a call that took too long",
      new ConnectError("deadline", Code.DeadlineExceeded),
      4,
      "error: the control plane at 10.0.0.1:1 did not answer in time\nhint: look at its log; whether the call took effect is not known\n",
    ],
    [
      "another server",
      new ConnectError("unknown service convoke.v1.ServerService", Code.Unimplemented),
      1,
      "error: what answers at 10.0.0.1:1 does not serve this call\n  unknown service convoke.v1.ServerService\nhint: is it a Convoke control plane of this version, and its gRPC port? `convoke version` tells this one's\n",
    ],
  ])("%s", async (_what, error, exitCode, stderr) => {
    const failing = () => Promise.reject(error);
    expect(await run(["extra", "--endpoint", "10.0.0.1:1"], failing)).toEqual({
      exitCode,
      stdout: "",
      stderr,
    });
  });

  test("a stack only when asked for", async () => {
    const failing = () => Promise.reject(new Error("broken"));
    expect((await run(["extra"], failing)).stderr).toBe("error: broken\n");
    expect((await run(["extra"], failing, { CONVOKE_DEBUG: "1" })).stderr).toContain("cli.test.ts");
  });

  test("nothing at all when the reader of stdout has left", async () => {
    const gone = Object.assign(new Error("write EPIPE"), { code: "EPIPE" });
    expect(await run(["extra"], () => Promise.reject(gone))).toEqual({ exitCode: 0, stdout: "", stderr: "" });
  });
});

describe("signals", () => {
  async function interrupted(name: "SIGINT" | "SIGTERM", onAbort: () => void) {
    const cli = createTestCliContext();
    const command = new Command("extra").action(async () => {
      await once(cli.context.signal, "abort");
      onAbort();
    });
    const finished = runCli(cli.context, ["extra"], [command]);
    cli.abort.abort(new InterruptedError(name));
    return { exitCode: await finished, stderr: cli.stderr() };
  }

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s while a command waits exits with %d, whatever it then throws", async (name, exitCode) => {
    const breakOff = () => {
      throw new ConnectError("call cancelled", Code.Canceled);
    };
    expect(await interrupted(name, breakOff)).toEqual({ exitCode, stderr: "" });
  });

  test("a command that stops as it should exits with 0", async () => {
    expect(await interrupted("SIGTERM", () => {})).toEqual({ exitCode: 0, stderr: "" });
  });
});

test("printing waits for a slow reader, and rejects when the reader leaves", async () => {
  const { PassThrough } = await import("node:stream");
  const stream = new PassThrough({ highWaterMark: 4 });
  const states: string[] = [];
  const written = writeTo(stream, "longer than the mark").then(() => states.push("written"));
  await new Promise((resolve) => setImmediate(resolve));
  expect(states).toEqual([]);
  stream.resume();
  await written;
  stream.pause();
  const broken = writeTo(stream, "longer than the mark");
  stream.destroy(new Error("gone"));
  await expect(broken).rejects.toThrow("gone");
  await expect(writeTo(stream, "more")).rejects.toThrow("gone");
});
