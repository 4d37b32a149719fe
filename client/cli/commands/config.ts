import { Command } from "commander";
import type { CliContext } from "../context.ts";
import { detectionOptions } from "../detection-options.ts";
import { endpointOption, integerParser, outputOption } from "../options.ts";
import type { ExplainOptions } from "./config-explain.ts";

/** `convoke config explain`. */
export function configCommand(context: CliContext): Command {
  return new Command("config")
    .description("Explain the settings in force")
    .usage("[options] explain")
    .addCommand(configExplainCommand(context));
}

function configExplainCommand(context: CliContext): Command {
  const command = new Command("explain")
    .description("Print how failures of servers are found out, and the times that follow from it")
    .addOption(outputOption())
    .addOption(endpointOption())
    .optionsGroup("To plan, without a control plane:");
  for (const option of detectionOptions()) command.addOption(option);
  return command
    .option(
      "--servers <n>",
      "explain the brake for so many servers",
      integerParser({ min: 1, max: 1_000_000 }),
    )
    .addHelpText(
      "after",
      `
Without planning options it asks the control plane, whose settings hold for its dispatchers and agents. With them it
calculates from a profile and single settings, as \`convoke serve\` takes them.

Examples:
  convoke config explain
  convoke config explain --detection wan
  convoke config explain --probe-interval 500ms --timeouts 4 --servers 60`,
    )
    .action(async (options: ExplainOptions, command: Command) => {
      const { runExplain } = await import("./config-explain.ts");
      await runExplain(context, options, command);
    });
}
