import { Command, Option } from "commander";
import type { LogLevel } from "../../../common/logging.ts";
import type { AgentOptions } from "../../agent/agent-options.ts";
import { asUsage, labelsFromEnvironment } from "../as-usage.ts";
import { type CliContext, endpointOf } from "../context.ts";
import { collectLabel, endpointOption, integerParser, logLevelOption, parseHostPort } from "../options.ts";

interface AgentCommandOptions extends Omit<AgentOptions, "labels"> {
  readonly label?: Readonly<Record<string, string>>;
  readonly logLevel: LogLevel;
}

/** Listed here again because loading the agent takes longer than printing `--help`. */
const DRIVERS = ["loopback"] as const satisfies readonly AgentOptions["driver"][];

/** `convoke agent`: hosts conferences on a conference server until it is interrupted. */
export function agentCommand(context: CliContext): Command {
  return new Command("agent")
    .summary("run the agent of a conference server")
    .description(
      "Registers a conference server with the control plane and hosts what dispatchers start on it.\n" +
        "Runs until SIGINT or SIGTERM. Goes on hosting while the control plane is away.",
    )
    .addOption(new Option("--id <id>", "ID of the conference server").env("CONVOKE_ID").makeOptionMandatory())
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
        "  $ convoke agent --id s3 --capacity 500 --listen 0.0.0.0:7500 --advertise s3.example.org:7500",
    )
    .action(async (_options: unknown, command: Command) => {
      const { label, logLevel, ...options } = command.opts<AgentCommandOptions>();
      const agentOptions: AgentOptions = {
        ...options,
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
      await runAgent(agentOptions, { logger, clock: context.clock }, context.signal);
    });
}
