import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { transitionCommand } from "../transition.ts";
import { SERVER_WORDS } from "../words.ts";

/** `convoke cordon [server] ID…` */
export function cordonCommand(context: CliContext): Command {
  return transitionCommand(context, {
    name: "cordon",
    description: "Close conference servers to new conferences",
    done: "cordoned",
    words: SERVER_WORDS,
    idOf: ({ serverId }) => serverId,
    resource: async () => (await import("../resources/server.ts")).serverResource,
    call: async (client, serverId, signal) =>
      (await client.servers.cordonServer({ serverId }, { signal })).server,
    help: "The conferences they host stay; `convoke drain` moves them. `convoke uncordon` opens the servers again.",
  });
}
