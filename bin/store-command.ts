import { randomUUID } from "node:crypto";
import { access } from "node:fs/promises";
import { Command, Option } from "commander";
import { OPERATE } from "../client/cli/cli.ts";
import { CliError } from "../client/cli/cli-error.ts";
import type { CliContext } from "../client/cli/context.ts";
import { ExitCode } from "../client/cli/exit-code.ts";
import { logLevelOption, type OutputFormat, outputOption } from "../client/cli/options.ts";
import { createTable } from "../client/cli/table.ts";
import type { LogLevel } from "../common/logging.ts";
import type { StoreCopy } from "../server/store/copy-store.ts";

interface CopyCommandOptions {
  readonly from: string;
  readonly to: string;
  readonly sourceStopped?: boolean;
  readonly output: OutputFormat;
  readonly logLevel: LogLevel;
}

/** Often enough to look alive, seldom enough to cost nothing. */
const PROGRESS_MS = 1_000;

const EMBEDDED = "embedded:";

/** `convoke store`: what is done to a store while no control plane runs on it. */
export function storeCommand(context: CliContext): Command {
  return new Command("store")
    .helpGroup(OPERATE)
    .summary("move a deployment to another store")
    .description("Works on stores themselves, while no control plane runs on them.")
    .addCommand(copyCommand(context));
}

function copyCommand(context: CliContext): Command {
  return new Command("copy")
    .summary("copy everything from one store to another, empty one")
    .description(
      "Copies a deployment from one store to another of any kind, and compares both when it is done. " +
        "Stop every control plane on the source before; start those on the target after, with the same agents and " +
        "dispatchers. Do not start the source again: what has run on the target goes back by another copy, to an empty store.",
    )
    .addOption(
      new Option(
        "--from <location>",
        "what to copy: embedded:DIR or etcd://HOST:PORT[,…][/PREFIX]",
      ).makeOptionMandatory(),
    )
    .addOption(
      new Option("--to <location>", "where to, without a key under its prefix").makeOptionMandatory(),
    )
    .addOption(
      new Option(
        "--source-stopped",
        "states that every `convoke serve` on an etcd source is stopped, which cannot be seen from here",
      ),
    )
    .addOption(outputOption())
    .addOption(logLevelOption("warn"))
    .addHelpText(
      "after",
      "\nUntil the copy is complete the target is marked so that `convoke serve` refuses it. After exit code 3, or an\n" +
        "interruption, delete what is in the target and copy again.\n\n" +
        "Example:\n  convoke store copy --from embedded:/var/lib/convoke --to etcd://10.0.0.1,10.0.0.2,10.0.0.3/convoke",
    )
    .action((options: CopyCommandOptions) => runCopy(context, options));
}

async function runCopy(context: CliContext, options: CopyCommandOptions) {
  const { from, to, output } = options;
  if (!from.startsWith(EMBEDDED) && !options.sourceStopped)
    throw new CliError("whether control planes run on the source cannot be seen from here", {
      exitCode: ExitCode.usage,
      hint: "stop each `convoke serve` on it, and say so with --source-stopped",
    });
  // Opening would make the directory.
  if (from.startsWith(EMBEDDED)) await requireDirectory(from.slice(EMBEDDED.length));
  const [{ createLogger }, { copyStore, StoreCopyError }, { openStore }, { StoreError }] = await Promise.all([
    import("../common/logging.ts"),
    import("../server/store/copy-store.ts"),
    import("../server/store/open-store.ts"),
    import("../server/store/store.ts"),
  ]);
  const { clock, signal } = context;
  const logger = createLogger("convoke-store", options.logLevel);
  const beganMs = clock.monotonicMs();
  let shownMs = beganMs;
  try {
    await using stack = new AsyncDisposableStack();
    const source = await openStore(from, { clock, logger });
    stack.defer(() => source.store.close());
    const target = await openStore(to, { clock, logger });
    stack.defer(() => target.store.close());
    const copy = await copyStore(
      {
        source,
        target,
        sourceName: from,
        attemptId: randomUUID(),
        nowMs: Math.round(clock.wallMs()),
        onProgress(phase, keys) {
          if (clock.monotonicMs() - shownMs < PROGRESS_MS) return;
          shownMs = clock.monotonicMs();
          context.stderr.write(`${keys} keys ${phase}\n`);
        },
      },
      signal,
    );
    await printCopy(context, output, options, copy, (clock.monotonicMs() - beganMs) / 1000);
  } catch (err) {
    if (err instanceof StoreCopyError && err.code === "incomplete") {
      if (signal.aborted) context.warn(`the target is incomplete, and marked so; ${HOW_TO_CLEAR}`);
      throw new CliError(`the copy is not complete: ${err.message}`, {
        exitCode: ExitCode.partial,
        hint: `the target is marked as incomplete; ${HOW_TO_CLEAR}`,
        cause: err,
      });
    }
    const isUsage =
      err instanceof StoreCopyError ||
      err instanceof TypeError ||
      (err instanceof StoreError && err.code === "invalid");
    if (isUsage) throw new CliError(err.message, { exitCode: ExitCode.usage, cause: err });
    if (err instanceof StoreError)
      throw new CliError(err.message, {
        exitCode: err.code === "unavailable" ? ExitCode.unavailable : ExitCode.failed,
        hint: "nothing was copied; both stores must be reachable, and nobody else may use an embedded one",
        cause: err,
      });
    throw err;
  }
}

const HOW_TO_CLEAR = "delete what is in it (`etcdctl del --prefix PREFIX/`, or the directory) and copy again";

async function requireDirectory(directory: string) {
  try {
    await access(directory);
  } catch (err) {
    throw new CliError(`there is no store in ${JSON.stringify(directory)}`, {
      exitCode: ExitCode.usage,
      hint: "name the directory that `convoke serve --store embedded:DIR` has used",
      cause: err,
    });
  }
}

async function printCopy(
  context: CliContext,
  format: OutputFormat,
  { from, to }: CopyCommandOptions,
  copy: StoreCopy,
  seconds: number,
) {
  const result = { from, to, ...copy, revision: String(copy.revision), seconds: Number(seconds.toFixed(3)) };
  if (format === "json") return context.print(JSON.stringify(result, undefined, 2));
  if (format === "yaml") {
    const { stringify } = await import("yaml");
    return context.print(stringify(result).trimEnd());
  }
  const rows = Object.entries(result).map(([name, value]) => ({ name: LABELS[name] ?? name, value }));
  const table = createTable<(typeof rows)[number]>(
    [
      { header: "COPIED AND COMPARED", cell: ({ name }) => name },
      { header: "", cell: ({ value }) => String(value) },
    ],
    context.clock.wallMs(),
  );
  return context.print(table(rows));
}

const LABELS: Readonly<Record<string, string>> = {
  claimsMadeExplicit: "claims made explicit",
  leasedKeysLeft: "leased keys left behind",
  size: "bytes",
};
