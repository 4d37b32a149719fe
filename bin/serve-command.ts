import { Command, Option } from "commander";
import { asUsage } from "../client/cli/as-usage.ts";
import type { CliContext } from "../client/cli/context.ts";
import { detectionOf, detectionOptions, namingFlags } from "../client/cli/detection-options.ts";
import { durationParser, integerParser, logLevelOption, parseHostPort } from "../client/cli/options.ts";
import type { LogLevel } from "../common/logging.ts";

interface ServeCommandOptions {
  readonly listen: string;
  readonly http: string;
  readonly store?: string;
  readonly grace?: number;
  readonly takeover?: number;
  readonly maxFailedAttempts?: number;
  readonly retention?: number;
  readonly moveBudget?: number;
  readonly logLevel: LogLevel;
  /** The options of failure detection, by commander's names. */
  readonly [option: string]: unknown;
}

const HOUR_MS = 3_600_000;

/** `convoke serve`: runs a control-plane replica until it is interrupted. */
export function serveCommand(context: CliContext): Command {
  const command = new Command("serve")
    .summary("run a control plane on this machine")
    .description(
      "Serves gRPC with reflection and health on --listen, and Connect, gRPC-Web and JSON with /healthz, /readyz and /metrics on\n" +
        "--http. Runs until SIGINT or SIGTERM, then finishes the calls under way.",
    )
    .addOption(
      new Option("--listen <host:port>", "where to serve gRPC; port 0 takes a free one")
        .env("CONVOKE_LISTEN")
        .argParser(parseHostPort)
        .default("127.0.0.1:7400"),
    )
    .addOption(
      new Option("--http <host:port>", "where to serve Connect, JSON and the probes")
        .env("CONVOKE_HTTP")
        .argParser(parseHostPort)
        .default("127.0.0.1:7480"),
    )
    .addOption(
      new Option(
        "--store <location>",
        "where to keep everything: embedded:DIR (default: embedded:$XDG_STATE_HOME/convoke)\n" +
          "or etcd://HOST:PORT[,HOST:PORT…][/PREFIX][?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE]",
      ).env("CONVOKE_STORE"),
    )
    .addOption(
      new Option(
        "--grace <duration>",
        "how long a dispatch stays valid after the scheduled end (default: 5m)",
      )
        .env("CONVOKE_GRACE")
        .argParser(durationParser({ minMs: 0, maxMs: 24 * HOUR_MS })),
    )
    .addOption(
      new Option(
        "--takeover <duration>",
        "when others may take what a dispatcher left of its share (default: 2s)",
      )
        .env("CONVOKE_TAKEOVER")
        .argParser(durationParser({ minMs: 100, maxMs: HOUR_MS })),
    )
    .addOption(
      new Option(
        "--max-failed-attempts <n>",
        "failed starts that make a conference FAILED; want of room does not count (default: 5)",
      )
        .env("CONVOKE_MAX_FAILED_ATTEMPTS")
        .argParser(integerParser({ min: 1, max: 1000 })),
    )
    .addOption(
      new Option("--retention <duration>", "how long conferences are kept after they are over (default: 7d)")
        .env("CONVOKE_RETENTION")
        .argParser(durationParser({ minMs: 60_000, maxMs: 366 * 24 * HOUR_MS })),
    )
    .addOption(
      new Option(
        "--move-budget <n>",
        "conferences that may be on their way to another server at a time (default: 1000)",
      )
        .env("CONVOKE_MOVE_BUDGET")
        .argParser(integerParser({ min: 1, max: 1_000_000 })),
    )
    .addOption(logLevelOption().env("CONVOKE_LOG_LEVEL"))
    .optionsGroup(
      "Failure detection, for all dispatchers and agents (defaults: `convoke config explain --detection lan`):",
    );
  for (const option of detectionOptions()) command.addOption(option.env(variableOf(option)));
  return command.action(async (options: ServeCommandOptions) => {
    const [{ createLogger }, { compileDetection }, { defaultStore, runServe }] = await Promise.all([
      import("../common/logging.ts"),
      import("../common/detection.ts"),
      import("../server/serve.ts"),
    ]);
    const settings = {
      graceMs: options.grace,
      takeoverMs: options.takeover,
      maxFailedAttempts: options.maxFailedAttempts,
      retentionMs: options.retention,
      moveBudget: options.moveBudget,
      detection: asUsage(() => namingFlags(() => compileDetection(detectionOf(options)))),
    };
    await runServe(
      {
        listen: options.listen,
        http: options.http,
        store: options.store ?? defaultStore(context.env),
        settings: Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)),
        logger: createLogger("convoke-serve", options.logLevel),
      },
      context.signal,
    );
  });
}

/** The environment variable of an option: `CONVOKE_PROBE_INTERVAL` of `--probe-interval`. */
function variableOf({ long }: Option): string {
  return `CONVOKE_${(long ?? "").slice(2).toUpperCase().replaceAll("-", "_")}`;
}
