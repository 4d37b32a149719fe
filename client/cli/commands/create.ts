import { Command, Option } from "commander";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { ExitCode } from "../exit-code.ts";
import {
  collectLabel,
  durationParser,
  endpointOption,
  integerParser,
  type OutputFormat,
  outputOption,
  timeParser,
} from "../options.ts";

interface CreateOptions {
  readonly output: OutputFormat;
  readonly start?: number;
  readonly end?: number;
  readonly duration?: number;
  readonly participants?: number;
  readonly weight?: number;
  readonly region?: string;
  readonly name?: string;
  readonly series?: string;
  readonly requestId?: string;
  readonly requireLabel?: Record<string, string>;
  readonly preferLabel?: Record<string, string>;
  readonly avoidLabel?: Record<string, string>;
}

/** The contract's bounds of what a conference needs and expects. */
const MAX_UNITS = 100_000;

/** `convoke create conference [ID]`. */
export function createCommand(context: CliContext): Command {
  return new Command("create")
    .description("Schedule a conference")
    .usage("[options] conference [ID]")
    .addCommand(createConferenceCommand(context));
}

function createConferenceCommand(context: CliContext): Command {
  const parseTime = timeParser(context.clock);
  return new Command("conference")
    .alias("conf")
    .description("Schedule a conference")
    .argument("[ID]", "1 to 63 of a-z 0-9 - . _; without, one is made up and printed")
    .option("--start <time>", "when it starts (RFC 3339, now, +10m); default: now", parseTime)
    .addOption(
      new Option("--end <time>", "when it is to end; this or --duration is needed")
        .argParser(parseTime)
        .conflicts("duration"),
    )
    .option(
      "--duration <duration>",
      "how long it is to last, such as 45m",
      durationParser({ minMs: 1_000, maxMs: 366 * 86_400_000 }),
    )
    .option(
      "--participants <n>",
      "how many are expected; default: 0",
      integerParser({ min: 0, max: MAX_UNITS }),
    )
    .option(
      "--weight <units>",
      "the capacity units it needs; default: the participants, at least 1",
      integerParser({ min: 1, max: MAX_UNITS }),
    )
    .option("--region <region>", "where it should be hosted; default: anywhere")
    .option("--name <text>", "a name for people")
    .option("--series <uid>", "the calendar series it belongs to")
    .option("--require-label <key=value>", "a label its server must have (repeatable)", collectLabel)
    .option("--prefer-label <key=value>", "a label its server should have (repeatable)", collectLabel)
    .option("--avoid-label <key=value>", "a label its server should not have (repeatable)", collectLabel)
    .option(
      "--request-id <text>",
      "makes the call safe to repeat: the same gives the conference that was made",
    )
    .addOption(outputOption())
    .addOption(endpointOption())
    .addHelpText(
      "after",
      `
Examples:
  convoke create conference standup --start 2030-01-31T09:00:00+01:00 --duration 15m --participants 12
  convoke create conference --start +10m --duration 1h --request-id booking-4711 -o json`,
    )
    .action(async (id: string | undefined, options: CreateOptions, command: Command) => {
      const startMs = options.start ?? context.clock.wallMs();
      const endMs = endOf(startMs, options);
      const { timestampFromMs } = await import("../../../common/time.ts");
      using client = await context.connect(command);
      const { conference } = await client.conferences.createConference(
        {
          requestId: options.requestId ?? "",
          conference: {
            conferenceId: id ?? "",
            startTime: timestampFromMs(startMs),
            endTime: timestampFromMs(endMs),
            displayName: options.name ?? "",
            expectedParticipants: options.participants ?? 0,
            weight: options.weight ?? 0,
            region: options.region ?? "",
            seriesId: options.series ?? "",
            requiredLabels: options.requireLabel ?? {},
            preferredLabels: options.preferLabel ?? {},
            avoidedLabels: options.avoidLabel ?? {},
          },
        },
        { signal: context.signal },
      );
      if (!conference) throw new Error("the control plane answered without the conference");
      if (options.output === "table") {
        await context.print(`conference/${conference.conferenceId} created`);
        return;
      }
      const [{ printOne }, { conferenceResource }] = await Promise.all([
        import("../output.ts"),
        import("../resources/conference.ts"),
      ]);
      await printOne(context, options.output, conferenceResource, conference);
    });
}

function endOf(startMs: number, { end, duration }: CreateOptions): number {
  if (end === undefined && duration === undefined)
    throw new CliError("when is it to end?", {
      exitCode: ExitCode.usage,
      hint: "give --duration, such as --duration 45m, or --end",
    });
  const endMs = end ?? startMs + (duration ?? 0);
  if (endMs <= startMs)
    throw new CliError("the end must come after the start", {
      exitCode: ExitCode.usage,
      details: [`start: ${new Date(startMs).toISOString()}`, `end:   ${new Date(endMs).toISOString()}`],
    });
  return endMs;
}
