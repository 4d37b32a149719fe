import { Command, Option } from "commander";
import type { LogLevel } from "../../../common/logging.ts";
import type { AgentOptions } from "../../agent/agent-options.ts";
import { asUsage, labelsFromEnvironment } from "../as-usage.ts";
import { type CliContext, endpointOf } from "../context.ts";
import {
  collectLabel,
  durationParser,
  endpointOption,
  integerParser,
  logLevelOption,
  parseHostPort,
} from "../options.ts";

interface AgentCommandOptions
  extends Omit<
    AgentOptions,
    "labels" | "restartWithinMs" | "drainDeadlineMs" | "drainTimeoutMs" | "moveLingerMs"
  > {
  readonly label?: Readonly<Record<string, string>>;
  readonly restartWithin?: number;
  readonly drainDeadline?: number;
  readonly drainTimeout?: number;
  readonly moveLinger?: number;
  readonly logLevel: LogLevel;
}

const HOUR_MS = 3_600_000;

/** Listed here again because loading the agent takes longer than printing `--help`. */
const DRIVERS = ["loopback"] as const satisfies readonly AgentOptions["driver"][];
const ISOLATION_POLICIES = ["stop", "keep"] as const satisfies readonly AgentOptions["isolation"][];

/** `convoke agent`: hosts conferences on a conference server until it is interrupted. */
export function agentCommand(context: CliContext): Command {
  return new Command("agent")
    .summary("run the agent of a conference server")
    .description(
      "Registers a conference server with the control plane and hosts what dispatchers start on it.\n" +
        "SIGTERM drains the server, and ends the process with exit code 0 once every conference has been moved; another one\n" +
        "ends it at once. SIGINT ends it at once; with --room-server the rooms go on, and an agent that is back within\n" +
        "--restart-within finds them as they were. Goes on hosting while dispatchers or the control plane are heard.",
    )
    .addOption(
      new Option("--id <id>", "ID of the conference server; no two agents may have the same")
        .env("CONVOKE_ID")
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--capacity <units>", "units of weight it can host")
        .env("CONVOKE_CAPACITY")
        .argParser(integerParser({ min: 1, max: 1_000_000_000 }))
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--driver <name>", "kind of conference server")
        .env("CONVOKE_DRIVER")
        .choices(DRIVERS)
        .default("loopback"),
    )
    .addOption(
      new Option("--listen <host:port>", "where to answer dispatchers; port 0 takes a free one")
        .env("CONVOKE_LISTEN")
        .argParser(parseHostPort)
        .default("127.0.0.1:0"),
    )
    .addOption(
      new Option(
        "--advertise <host:port>",
        "where dispatchers reach it, when not at --listen; port 0: the same",
      )
        .env("CONVOKE_ADVERTISE")
        .argParser(parseHostPort),
    )
    .addOption(
      new Option(
        "--rooms-listen <host:port>",
        "where the loopback driver serves rooms (default: host of --listen)",
      )
        .env("CONVOKE_ROOMS_LISTEN")
        .argParser(parseHostPort),
    )
    .addOption(
      new Option("--rooms-advertise <host:port>", "where participants reach them, when not at --rooms-listen")
        .env("CONVOKE_ROOMS_ADVERTISE")
        .argParser(parseHostPort),
    )
    .addOption(
      new Option(
        "--room-server <host:port>",
        "control of a `convoke room-server` on this machine that hosts the rooms instead of this process",
      )
        .env("CONVOKE_ROOM_SERVER")
        .argParser(parseHostPort),
    )
    .addOption(
      new Option(
        "--isolation <policy>",
        "what becomes of conferences when nobody is heard any more, or the server is held to be down",
      )
        .env("CONVOKE_ISOLATION")
        .choices(ISOLATION_POLICIES)
        .default("stop"),
    )
    .addOption(
      new Option(
        "--restart-within <duration>",
        "with --room-server: how long SIGINT lets others wait for the agent (default: 30s)",
      )
        .env("CONVOKE_RESTART_WITHIN")
        .argParser(durationParser({ minMs: 0, maxMs: HOUR_MS / 12 })),
    )
    .addOption(
      new Option(
        "--drain-deadline <duration>",
        "how long SIGTERM lets conferences end by themselves before they are moved (default: 0s)",
      )
        .env("CONVOKE_DRAIN_DEADLINE")
        .argParser(durationParser({ minMs: 0, maxMs: 24 * HOUR_MS })),
    )
    .addOption(
      new Option(
        "--drain-timeout <duration>",
        "how long after SIGTERM it ends all the same (default: --drain-deadline and 5m)",
      )
        .env("CONVOKE_DRAIN_TIMEOUT")
        .argParser(durationParser({ minMs: 0, maxMs: 48 * HOUR_MS })),
    )
    .addOption(
      new Option(
        "--exit-when-drained",
        "end by itself, with exit code 0, when an operator's drain of the server is done",
      ).env("CONVOKE_EXIT_WHEN_DRAINED"),
    )
    .addOption(
      new Option(
        "--move-linger <duration>",
        "how long a room goes on after a drain has moved its conference (default: 2s)",
      )
        .env("CONVOKE_MOVE_LINGER")
        .argParser(durationParser({ minMs: 0, maxMs: 60_000 })),
    )
    .addOption(new Option("--region <region>", "where the server is").env("CONVOKE_REGION"))
    .addOption(
      new Option(
        "--label <key=value>",
        "label of the server, may be repeated (env: CONVOKE_LABELS, with commas between)",
      ).argParser(collectLabel),
    )
    .addOption(endpointOption())
    .addOption(logLevelOption().env("CONVOKE_LOG_LEVEL"))
    .addHelpText(
      "after",
      "\nExamples:\n" +
        "  $ convoke agent --id s1 --capacity 500\n" +
        "  $ convoke agent --id s2 --capacity 500 --region eu --label zone=a --label gpu=yes\n" +
        "  $ convoke agent --id s3 --capacity 500 --listen 0.0.0.0:7500 --advertise s3.example.org:7500\n" +
        "  $ convoke agent --id s4 --capacity 500 --room-server 127.0.0.1:7600",
    )
    .action(async (_options: unknown, command: Command) => {
      const { label, logLevel, restartWithin, drainDeadline, drainTimeout, moveLinger, ...options } =
        command.opts<AgentCommandOptions>();
      const agentOptions: AgentOptions = {
        ...options,
        ...(restartWithin === undefined ? {} : { restartWithinMs: restartWithin }),
        ...(drainDeadline === undefined ? {} : { drainDeadlineMs: drainDeadline }),
        ...(drainTimeout === undefined ? {} : { drainTimeoutMs: drainTimeout }),
        ...(moveLinger === undefined ? {} : { moveLingerMs: moveLinger }),
        labels: label ?? labelsFromEnvironment(context.env.CONVOKE_LABELS),
        endpoint: endpointOf(context, command),
      };
      const [{ runAgent }, { compileAgentOptions }, { createLogger }] = await Promise.all([
        import("../../agent/agent.ts"),
        import("../../agent/agent-options.ts"),
        import("../../../common/logging.ts"),
      ]);
      asUsage(() => compileAgentOptions(agentOptions));
      const logger = createLogger("agent", logLevel);
      const drain = context.deferTermination();
      await runAgent(agentOptions, { logger, clock: context.clock, drain }, context.signal);
    });
}
