import { type Command, CommanderError, InvalidArgumentError } from "commander";
import { createCli } from "./cli.ts";
import { InterruptedError } from "./cli-error.ts";
import { type CliContext, endpointOf } from "./context.ts";
import { ExitCode } from "./exit-code.ts";

/**
 * Parses the command line (without the program's name), runs the command and resolves with the exit code; errors have
 * then been written to stderr.
 */
export async function runCli(
  context: CliContext,
  argv: readonly string[],
  extraCommands: readonly Command[] = [],
): Promise<number> {
  const program = createCli(context, extraCommands);
  let running = program;
  program.hook("preAction", (_program, action) => {
    running = action;
  });
  try {
    await program.parseAsync(argv, { from: "user" });
    return ExitCode.ok;
  } catch (err) {
    // Commander has written its message itself, unless a command threw the error in its action.
    if (err instanceof CommanderError && !(err instanceof InvalidArgumentError))
      return err.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    if (isBrokenPipe(err)) return ExitCode.ok;
    // What a command throws after it was asked to stop is how it stopped, not what went wrong.
    const cause = context.signal.reason instanceof InterruptedError ? context.signal.reason : err;
    const { formatReport, reportOf } = await import("./errors.ts");
    const report = reportOf(cause, endpointOf(context, running));
    if (!(cause instanceof InterruptedError)) context.stderr.write(`${formatReport(report)}\n`);
    if (context.env.CONVOKE_DEBUG && err instanceof Error) context.stderr.write(`${err.stack}\n`);
    return report.exitCode;
  }
}

/** Whether the reader of stdout has left, as `head` does: that is its right, and no error. */
function isBrokenPipe(err: unknown): boolean {
  return err instanceof Error && "code" in err && err.code === "EPIPE";
}
