import type { Command } from "commander";
import type { ImportProblem } from "../../import/problem.ts";
import { createProgress } from "../../import/progress.ts";
import { type ImportContent, readInputs } from "../../import/read-inputs.ts";
import type { TimeRange } from "../../import/series.ts";
import { syncCalendar } from "../../import/sync.ts";
import { addCounts, type ImportCounts, NO_COUNTS, upsertConferences } from "../../import/upsert.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { ExitCode } from "../exit-code.ts";
import type { OutputFormat } from "../options.ts";
import { type RangeOptions, rangeOf } from "./import-range.ts";
import { liveItems, plural, printPlanned, printSummary, writeProblems } from "./import-report.ts";

export interface ImportCommandOptions extends RangeOptions {
  readonly output: OutputFormat;
  readonly format?: "ics" | "jsonl";
  readonly keepGoing?: boolean;
  readonly dryRun?: boolean;
}

/** Reads everything first, then sends it. @throws {CliError} when there were problems; see the command's help */
export async function runImport(
  context: CliContext,
  files: readonly string[],
  options: ImportCommandOptions,
  command: Command,
): Promise<void> {
  const { output, dryRun = false, keepGoing = false } = options;
  const range = rangeOf(context, options);
  const content = await readInputs([...new Set(files)], {
    ...range,
    stdin: context.stdin,
    signal: context.signal,
    timezone: options.timezone,
    format: options.format,
  });
  const problems = content.problems.length;
  writeProblems(context, content.problems);
  if (problems > 0 && !keepGoing) {
    if (output !== "table" && !dryRun)
      await printSummary(context, output, { content, counts: undefined, rejections: [] });
    throw new CliError(`${plural(problems, "problem")} in the input; nothing was imported`, {
      hint: "mend the input, or import the rest with --keep-going",
    });
  }
  if (dryRun) await printPlanned(context, output, content);
  else await send(context, content, range, output, command);
  if (problems > 0)
    throw new CliError(
      `${plural(problems, "problem")} in the input; the rest was ${dryRun ? "read" : "imported"}`,
      {
        exitCode: ExitCode.partial,
      },
    );
}

async function send(
  context: CliContext,
  content: ImportContent,
  range: TimeRange,
  output: OutputFormat,
  command: Command,
) {
  const total = liveItems(content).length;
  const rejections: ImportProblem[] = [];
  let counts: ImportCounts = NO_COUNTS;
  using client = await context.connect(command);
  // What is printed for programs comes alone.
  using progress =
    output === "table"
      ? createProgress({
          stream: context.stderr,
          clock: context.clock,
          isTerminal: context.isTty.stderr,
          total,
        })
      : undefined;
  const calling = {
    client: client.conferences,
    clock: context.clock,
    signal: context.signal,
    onProgress(change: Partial<ImportCounts>) {
      counts = addCounts(counts, change);
      progress?.add(change);
    },
    onRejected: (rejection: ImportProblem) => void rejections.push(rejection),
  };
  await upsertConferences(content.items, calling);
  await syncCalendar(content.calendars, range, calling);
  progress?.end();
  writeProblems(context, rejections);
  await printSummary(context, output, { content, counts, rejections });
  if (rejections.length > 0)
    throw new CliError(`the control plane refused ${plural(rejections.length, "conference")}`, {
      exitCode: rejections.length < total ? ExitCode.partial : ExitCode.failed,
    });
}
