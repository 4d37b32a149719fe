import { Command, Option } from "commander";
import type { CliContext } from "../context.ts";
import { durationParser, endpointOption, outputOption } from "../options.ts";
import type { DrainOptions } from "./drain-run.ts";

const DAY_MS = 24 * 3_600_000;

/** `convoke drain [server] ID…` */
export function drainCommand(context: CliContext): Command {
  return new Command("drain")
    .description("Empty conference servers: close them and move what they host, without a break")
    .argument("<ID...>", "one or more; the word `server` may stand in front of them")
    .addOption(
      new Option(
        "--deadline <duration>",
        "how long conferences may go on to end by themselves; those that end later are moved at once (default: 0s)",
      ).argParser(durationParser({ minMs: 0, maxMs: DAY_MS })),
    )
    .option("--no-wait", "return when the drain has begun, instead of when it is done")
    .addOption(
      new Option("--timeout <duration>", "stop waiting after this; the drain goes on").argParser(
        durationParser({ minMs: 1, maxMs: 30 * DAY_MS }),
      ),
    )
    .addOption(outputOption())
    .addOption(endpointOption())
    .usage("[options] [server] <ID...>")
    .addHelpText("after", HELP)
    .action(async (args: string[], options: DrainOptions, command: Command) => {
      const { runDrain } = await import("./drain-run.ts");
      await runDrain(context, args, options, command);
    });
}

const HELP = `
Each conference gets its new place before it leaves the old one. Ctrl-C ends the waiting and not the drain;
\`convoke uncordon\` cancels it. Asked again, the new deadline holds. A drained server stays closed: stop its agent and
\`convoke remove\` it, or \`convoke uncordon\` it after the maintenance.

Exits with 0 when all are drained; with 1 or, when some are, 3 when that failed, was cancelled, or took longer than
--timeout.

Examples:
  convoke drain s1
  convoke drain s1 s2 --deadline 30m --timeout 1h
  convoke drain s1 --no-wait && convoke get server s1`;
