import { Command, InvalidArgumentError, Option } from "commander";
import type { LogLevel } from "../../../common/logging.ts";
import type { DispatcherOptions } from "../../dispatcher/options.ts";
import { asUsage, labelsFromEnvironment } from "../as-usage.ts";
import { CliError } from "../cli-error.ts";
import { type CliContext, endpointOf } from "../context.ts";
import { collectLabel, durationParser, endpointOption, integerParser, logLevelOption } from "../options.ts";

interface DispatcherCommandOptions {
  readonly id: string;
  readonly window: number;
  readonly tick: number;
  readonly ttl: number;
  readonly weight: number;
  readonly label?: Readonly<Record<string, string>>;
  readonly startRate?: number;
  readonly metrics?: string;
  readonly logLevel: LogLevel;
}

/** `convoke dispatcher`: takes its share of the due conferences and places them until it is interrupted. */
export function dispatcherCommand(context: CliContext): Command {
  return new Command("dispatcher")
    .summary("run a dispatcher")
    .description(
      "Registers with the control plane, takes its fair share of the conferences that are due, starts them on\n" +
        "conference servers and writes them into the dispatch table. Probes conference servers beside that, and\n" +
        "reports those that fail to the control plane, which says how often.\n" +
        "Runs until SIGINT or SIGTERM; then finishes what it has started and gives back the rest. Waits while the\n" +
        "control plane is away, and ends when another process registers under its ID.",
    )
    .addOption(
      new Option("--id <id>", "ID of the dispatcher; no two processes may share one")
        .env("CONVOKE_ID")
        .makeOptionMandatory(),
    )
    .addOption(
      durationOption("--window <duration>", "how long before its start a conference is placed", {
        env: "CONVOKE_WINDOW",
        minMs: 0,
        maxMs: 86_400_000,
      }).default(600_000, "10m"),
    )
    .addOption(
      durationOption("--tick <duration>", "how often the share is asked for", {
        env: "CONVOKE_TICK",
        minMs: 100,
        maxMs: 60_000,
      }).default(1_000, "1s"),
    )
    .addOption(
      durationOption("--ttl <duration>", "how long the registration outlives the dispatcher", {
        env: "CONVOKE_TTL",
        minMs: 1_000,
        maxMs: 600_000,
      }).default(5_000, "5s"),
    )
    .addOption(
      new Option("--weight <n>", "size of the share relative to other dispatchers, 1 to 1000")
        .env("CONVOKE_WEIGHT")
        .argParser(integerParser({ min: 1, max: 1_000 }))
        .default(1),
    )
    .addOption(
      new Option(
        "--label <key=value>",
        "label of the dispatcher, may be repeated (env: CONVOKE_LABELS, with commas between)",
      ).argParser(collectLabel),
    )
    .addOption(
      new Option("--start-rate <n>", "how many conferences are started a second at most (default: no limit)")
        .env("CONVOKE_START_RATE")
        .argParser(parseRate),
    )
    .addOption(
      new Option(
        "--metrics <host:port>",
        "serve /metrics and /healthz over HTTP there (default: nowhere)",
      ).env("CONVOKE_METRICS"),
    )
    .addOption(endpointOption())
    .addOption(logLevelOption().env("CONVOKE_LOG_LEVEL"))
    .addHelpText(
      "after",
      "\nExamples:\n" +
        "  $ convoke dispatcher --id d1\n" +
        "  $ convoke dispatcher --id d2 --endpoint control.example.org:7400 --label zone=a --start-rate 50\n" +
        "  $ convoke dispatcher --id d3 --metrics 127.0.0.1:9300",
    )
    .action(async (_options: unknown, command: Command) => {
      const { id, window, tick, ttl, weight, label, startRate, metrics, logLevel } =
        command.opts<DispatcherCommandOptions>();
      const options: DispatcherOptions = {
        id,
        endpoint: endpointOf(context, command),
        windowMs: window,
        tickMs: tick,
        ttlMs: ttl,
        weight,
        labels: label ?? labelsFromEnvironment(context.env.CONVOKE_LABELS),
        ...(startRate === undefined ? {} : { startRate }),
        ...(metrics === undefined ? {} : { metrics }),
      };
      const [{ compileDispatcherOptions, DispatcherReplacedError, runDispatcher }, { createLogger }] =
        await Promise.all([import("../../dispatcher/dispatcher.ts"), import("../../../common/logging.ts")]);
      asUsage(() => compileDispatcherOptions(options));
      const logger = createLogger("dispatcher", logLevel);
      try {
        await runDispatcher(options, context.signal, { logger, clock: context.clock });
      } catch (err) {
        if (!(err instanceof DispatcherReplacedError)) throw err;
        throw new CliError(err.message, { cause: err, hint: "give each dispatcher an --id of its own" });
      }
    });
}

function durationOption(
  flags: string,
  description: string,
  { env, ...range }: { env: string; minMs: number; maxMs: number },
): Option {
  return new Option(flags, description).env(env).argParser(durationParser(range));
}

function parseRate(text: string): number {
  const rate = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || rate < 0.1 || rate > 1_000_000) {
    throw new InvalidArgumentError("Write a number from 0.1 to 1000000, such as 50.");
  }
  return rate;
}
