import { Command } from "commander";
import type { Observation } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { paginate } from "../../paginate.ts";
import type { ConvokeClient } from "../../transport/client.ts";
import type { CliContext } from "../context.ts";
import { layOut } from "../get-command.ts";
import { endpointOption, type GetFormat, getOutputOption } from "../options.ts";

/** The most that a list call gives. */
const LARGEST_PAGE = 1_000;

/** `convoke get observations [SERVER…]`. */
export function getObservationsCommand(context: CliContext): Command {
  return new Command("observations")
    .alias("observation")
    .description("Print what dispatchers report of the servers they probe")
    .argument("[SERVER...]", "only of these servers; of all without")
    .addOption(getOutputOption())
    .addOption(endpointOption())
    .addHelpText(
      "after",
      `
Only what is out of the ordinary is reported: an observer that says nothing of a server that is UP hears it. COUNTS tells
whether a vote counts; those of dispatchers that do not observe the server any more, or have withdrawn, do not.`,
    )
    .action(async (serverIds: string[], { output }: { output: GetFormat }, command: Command) => {
      const [{ printList }, { observationResource }] = await Promise.all([
        import("../output.ts"),
        import("../resources/observation.ts"),
      ]);
      const { format, resource } = layOut(output, observationResource);
      using client = await context.connect(command);
      const asked = serverIds.length === 0 ? [""] : [...new Set(serverIds)];
      await printList(context, format, resource, observationsOf(client, asked, context.signal));
    });
}

async function* observationsOf(
  client: ConvokeClient,
  serverIds: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<Observation, void, undefined> {
  for (const serverId of serverIds) {
    const all = paginate(
      (pageToken) =>
        client.servers.listObservations({ serverId, pageSize: LARGEST_PAGE, pageToken }, { signal }),
      (page) => page.observations,
    );
    let count = 0;
    for await (const observation of all) {
      count += 1;
      yield observation;
    }
    // Of a server that is not there nothing is observed; that it is not there is worth an error.
    if (count === 0 && serverId !== "") await client.servers.getServer({ serverId }, { signal });
  }
}

/** `convoke get brake`. */
export function getBrakeCommand(context: CliContext): Command {
  return new Command("brake")
    .description("Print the brake on mass failure, and which servers it keeps from being declared DOWN")
    .addOption(getOutputOption())
    .addOption(endpointOption())
    .addHelpText(
      "after",
      `
ready: fewer servers fail than may. engaged: more do, and none is declared DOWN, since it is likelier that the network is
sick; \`convoke release-brake\` overrides it. released: somebody did.`,
    )
    .action(async ({ output }: { output: GetFormat }, command: Command) => {
      const [{ printOne }, { brakeResource }] = await Promise.all([
        import("../output.ts"),
        import("../resources/brake.ts"),
      ]);
      const { format, resource } = layOut(output, brakeResource);
      using client = await context.connect(command);
      const { brake } = await client.servers.getDetection({}, { signal: context.signal });
      if (!brake) throw new Error("the control plane answered without the brake");
      await printOne(context, format, resource, brake);
    });
}
