import { Command, Option } from "commander";
import type { DispatchEvent } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import type { CliContext } from "../context.ts";
import { collectList, endpointOption, integerParser, outputOption } from "../options.ts";
import type { WatchCommandOptions } from "./watch-run.ts";

interface DispatchFilters {
  readonly server?: string[];
  readonly conference?: string[];
}

/** `convoke watch dispatches|servers`. */
export function watchCommand(context: CliContext): Command {
  return new Command("watch")
    .description("Print changes as they happen")
    .usage("[options] dispatches|servers")
    .addCommand(watchDispatchesCommand(context))
    .addCommand(watchServersCommand(context));
}

function watchDispatchesCommand(context: CliContext): Command {
  const command = new Command("dispatches")
    .alias("dispatch")
    .description("Print each change of the dispatch table on a line, after the rows that are valid now")
    .addOption(new Option("--server <ids>", "only on these servers").argParser(collectList))
    .addOption(new Option("--conference <ids>", "only of these conferences").argParser(collectList));
  return addWatchOptions(command, "rows")
    .addHelpText("after", helpOf("all valid rows are"))
    .action(async (options: WatchCommandOptions & DispatchFilters, command: Command) => {
      const [{ runWatch }, { watchDispatches }, { createDispatchFormatter, isExisting, isMove }] =
        await Promise.all([import("./watch-run.ts"), import("../../watch.ts"), import("../event-lines.ts")]);
      await runWatch(context, command, options, {
        all: "all valid rows",
        open: (client, watchOptions) => watchDispatches(client.conferences, watchOptions),
        format: createDispatchFormatter(options.output, context.clock),
        isWanted: (event) => isWanted(event, isMove(event), options),
        isExisting,
      });
    });
}

function watchServersCommand(context: CliContext): Command {
  const command = new Command("servers")
    .alias("server")
    .description(
      "Print each change of a conference server on a line: what changed and why, after all there are",
    )
    .argument("[ID...]", "only these; all without");
  return addWatchOptions(command, "servers")
    .addHelpText("after", helpOf("all servers are"))
    .action(async (ids: string[], options: WatchCommandOptions, command: Command) => {
      const [{ runWatch }, { watchServers }, { createServerFormatter }] = await Promise.all([
        import("./watch-run.ts"),
        import("../../watch.ts"),
        import("../event-lines.ts"),
      ]);
      await runWatch(context, command, options, {
        all: "all servers",
        open: (client, watchOptions) => watchServers(client.servers, watchOptions),
        format: createServerFormatter(options.output, context.clock),
        isWanted: ({ server }) => server !== undefined && (ids.length === 0 || ids.includes(server.serverId)),
        // Those that are there come before the first revision.
        isExisting: (_event, revision) => revision === 0n,
      });
    });
}

function addWatchOptions(command: Command, things: string): Command {
  return command
    .addOption(outputOption())
    .option("--no-existing", `leave out the ${things} that are there when the watch begins`)
    .option(
      "--from-revision <n>",
      "resume after this revision, from the JSON output of an earlier watch",
      integerParser({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    )
    .addOption(endpointOption());
}

function helpOf(all: string): string {
  return `
Goes on until Ctrl-C. A broken stream is resumed by itself, with no change lost or printed twice; when the control
plane no longer keeps what was missed, ${all} printed again, and a line on standard error says so.
With -o json each line is one JSON object.`;
}

/** A move is wanted by those who look at the server it came from as well. */
function isWanted(
  { dispatch }: DispatchEvent,
  moved: boolean,
  { server, conference }: DispatchFilters,
): boolean {
  if (!dispatch) return false;
  const servers = moved ? [dispatch.serverId, dispatch.previousServerId] : [dispatch.serverId];
  return (
    (!server || servers.some((id) => server.includes(id))) &&
    (!conference || conference.includes(dispatch.conferenceId))
  );
}
