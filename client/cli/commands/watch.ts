import { Command, Option } from "commander";
import type { DispatchEvent } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import type { CliContext } from "../context.ts";
import { collectList, endpointOption, integerParser, type OutputFormat, outputOption } from "../options.ts";

interface WatchOptions {
  readonly output: OutputFormat;
  readonly server?: string[];
  readonly conference?: string[];
  readonly fromRevision?: number;
  readonly existing: boolean;
}

/** `convoke watch dispatches`. */
export function watchCommand(context: CliContext): Command {
  return new Command("watch")
    .description("Print changes as they happen")
    .usage("[options] dispatches")
    .addCommand(watchDispatchesCommand(context));
}

function watchDispatchesCommand(context: CliContext): Command {
  return new Command("dispatches")
    .alias("dispatch")
    .description("Print each change of the dispatch table on a line, after the rows that are valid now")
    .addOption(outputOption())
    .addOption(new Option("--server <ids>", "only on these servers").argParser(collectList))
    .addOption(new Option("--conference <ids>", "only of these conferences").argParser(collectList))
    .option("--no-existing", "leave out the rows that are there when the watch begins")
    .option(
      "--from-revision <n>",
      "resume after this revision, from the JSON output of an earlier watch",
      integerParser({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    )
    .addOption(endpointOption())
    .addHelpText(
      "after",
      `
Goes on until Ctrl-C. A broken stream is resumed by itself, with no change lost or printed twice; when the control
plane no longer keeps what was missed, all valid rows are printed again, and a line on standard error says so.
With -o json each line is one JSON object.`,
    )
    .action(async (options: WatchOptions, command: Command) => {
      const [{ watchDispatches }, { createEventFormatter, isExisting }, { reportOf }, { endpointOf }] =
        await Promise.all([
          import("../../watch.ts"),
          import("../event-lines.ts"),
          import("../errors.ts"),
          import("../context.ts"),
        ]);
      using client = await context.connect(command);
      const updates = watchDispatches(client.conferences, {
        signal: context.signal,
        clock: context.clock,
        revision: BigInt(options.fromRevision ?? 0),
        onInterrupted: (error, retryInMs) => {
          const cause = error ? reportOf(error, endpointOf(context, command)).message : "the stream ended";
          context.warn(`${cause}; resuming in ${(retryInMs / 1000).toFixed(1)} s`);
        },
      });
      const format = createEventFormatter(options.output, context.clock);
      if (format.header) await context.print(format.header);
      let resumeRevision = BigInt(options.fromRevision ?? 0);
      for await (const update of updates) {
        if (update.kind === "restart") {
          resumeRevision = 0n;
          context.warn(`changes were missed (${update.cause.rawMessage}): all valid rows follow again`);
          continue;
        }
        for (const [index, event] of update.events.entries()) {
          // Changes of one revision come together: only behind the last of them is it safe to resume.
          if (index === update.events.length - 1) resumeRevision = update.revision;
          if (!isWanted(event, options) || (!options.existing && isExisting(event))) continue;
          await context.print(format.line(event, resumeRevision));
        }
        resumeRevision = update.revision;
      }
    });
}

function isWanted({ dispatch }: DispatchEvent, { server, conference }: WatchOptions): boolean {
  if (!dispatch) return false;
  return (
    (!server || server.includes(dispatch.serverId)) &&
    (!conference || conference.includes(dispatch.conferenceId))
  );
}
