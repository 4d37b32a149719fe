import { Command } from "commander";
import { type CliContext, endpointOf } from "../context.ts";
import { endpointOption } from "../options.ts";
import { SERVER_WORDS } from "../words.ts";

/** `convoke remove [server] ID…` */
export function removeCommand(context: CliContext): Command {
  return new Command("remove")
    .description("Forget conference servers that host nothing any more")
    .argument("<ID...>", "one or more; the word `server` may stand in front of them")
    .addOption(endpointOption())
    .usage("[options] [server] <ID...>")
    .addHelpText(
      "after",
      `
\`convoke drain\` empties a server first. Stop its agent as well: one that runs registers it again. Removing twice
succeeds.`,
    )
    .action(async (args: string[], _options: unknown, command: Command) => {
      const [{ forEachId, idsOf }, { Code, ConnectError }] = await Promise.all([
        import("../each-id.ts"),
        import("@connectrpc/connect"),
      ]);
      const ids = idsOf(args, SERVER_WORDS);
      using client = await context.connect(command);
      const { signal } = context;
      const removed = forEachId(context, ids, endpointOf(context, command), async (serverId) => {
        // The call succeeds for a server that is not known, and people mistype.
        const known = await client.servers.getServer({ serverId }, { signal }).catch((err: unknown) => {
          if (err instanceof ConnectError && err.code === Code.NotFound) return undefined;
          throw err;
        });
        await client.servers.removeServer({ serverId }, { signal });
        return { serverId, known: known !== undefined };
      });
      for await (const { serverId, known } of removed) {
        if (!known) context.warn(`there was no server ${serverId}`);
        await context.print(`server/${serverId} removed`);
      }
    });
}
