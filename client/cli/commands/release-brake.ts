import { Command, Option } from "commander";
import type { CliContext } from "../context.ts";
import { durationParser, endpointOption, type OutputFormat, outputOption } from "../options.ts";

interface ReleaseBrakeOptions {
  readonly for: number;
  readonly output: OutputFormat;
}

/** `convoke release-brake` */
export function releaseBrakeCommand(context: CliContext): Command {
  return new Command("release-brake")
    .description("Let servers be declared DOWN for a time, however many fail")
    .addOption(
      new Option("--for <duration>", "how long, 1s to 1h")
        .argParser(durationParser({ minMs: 1_000, maxMs: 3_600_000 }))
        .default(5 * 60_000, "5m"),
    )
    .addOption(outputOption())
    .addOption(endpointOption())
    .addHelpText(
      "after",
      `
The brake engages when more servers fail at a time than may, since it is likelier then that the network is sick than that
they are all dead. Release it when you know that they are: their conferences are placed again on what is left.
\`convoke get brake\` tells its state, \`convoke get observations\` what the dispatchers see.`,
    )
    .action(async (options: ReleaseBrakeOptions, command: Command) => {
      const [{ durationFromMs, timestampMs }, { isoSeconds }, { brakeResource, idsText }, { printOne }] =
        await Promise.all([
          import("../../../common/time.ts"),
          import("../cells.ts"),
          import("../resources/brake.ts"),
          import("../output.ts"),
        ]);
      using client = await context.connect(command);
      const { signal } = context;
      const before = (await client.servers.getDetection({}, { signal })).brake;
      const request = { duration: durationFromMs(options.for) };
      const { brake } = await client.servers.releaseBrake(request, { signal });
      if (!brake) throw new Error("the control plane answered without the brake");
      if (options.output !== "table") return printOne(context, options.output, brakeResource, brake);
      const until = brake.releasedUntil ? ` until ${isoSeconds(timestampMs(brake.releasedUntil))}` : "";
      const held = before?.heldServerIds ?? [];
      await context.print(
        held.length > 0
          ? `brake released${until}; it held back ${idsText(held)}`
          : `brake released${until}; it held nothing back`,
      );
    });
}
