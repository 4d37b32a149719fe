import { Command } from "commander";
import type { CliContext } from "../context.ts";
import { type OutputFormat, outputOption } from "../options.ts";
import { readVersion } from "../version.ts";

/** `convoke version`. */
export function versionCommand(context: CliContext): Command {
  return new Command("version")
    .description("Print the version of this program and of what it runs on")
    .addOption(outputOption())
    .action(async ({ output }: { output: OutputFormat }) => {
      const versions = {
        convoke: readVersion(),
        node: process.versions.node,
        platform: `${process.platform}-${process.arch}`,
      };
      if (output === "json") return context.print(JSON.stringify(versions, undefined, 2));
      if (output === "yaml") return context.print((await import("yaml")).stringify(versions).trimEnd());
      return context.print(`convoke ${versions.convoke} (node ${versions.node}, ${versions.platform})`);
    });
}
