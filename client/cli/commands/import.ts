import { Command, Option } from "commander";
import type { CliContext } from "../context.ts";
import { endpointOption, outputOption } from "../options.ts";
import type { ImportCommandOptions } from "./import-run.ts";

/** `convoke import FILE…` */
export function importCommand(context: CliContext): Command {
  return new Command("import")
    .description("Schedule the conferences of calendars (iCalendar) or of JSON Lines")
    .argument("<FILE...>", "files to read; - is standard input")
    .option("--from <time>", "calendar: only what starts at or after this; default: now")
    .option("--until <time>", "calendar: only what starts before this; default: 30 days after --from")
    .option(
      "--timezone <zone>",
      "calendar: zone of times that name none, and of days in --from and --until; default: the calendar's, else UTC",
    )
    .option("--keep-going", "import the rest when something cannot be read; exits with 3")
    .addOption(
      new Option(
        "--format <format>",
        "what the files are; default: by their names, else their beginning",
      ).choices(["ics", "jsonl"]),
    )
    .option("--dry-run", "print the conferences that would be scheduled, and change nothing")
    .addOption(outputOption())
    .addOption(endpointOption())
    .addHelpText("after", HELP)
    .action(async (files: string[], options: ImportCommandOptions, command: Command) => {
      const { runImport } = await import("./import-run.ts");
      await runImport(context, files, options, command);
    });
}

const HELP = `
Importing again changes only what has changed: an instance moved in the calendar is moved, one called off or deleted
there is cancelled. All-day events and events without length are left out. JSON Lines never cancel anything.

Without --keep-going a problem anywhere stops the import before anything is sent: each is printed as
file:line: reason, and the exit code is 1.

Examples:
  convoke import team.ics
  convoke import team.ics --from 2030-01-01 --until 2030-04-01 --timezone Europe/Berlin
  convoke import rooms.ics --until +7d --dry-run
  generate-bookings | convoke import - --format jsonl --keep-going -o json`;
