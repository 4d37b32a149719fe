import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { transitionCommand } from "../transition.ts";
import { SERVER_WORDS } from "../words.ts";

/** `convoke uncordon [server] ID…` */
export function uncordonCommand(context: CliContext): Command {
  return transitionCommand(context, {
    name: "uncordon",
    description: "Open cordoned conference servers again, and cancel their drains",
    done: ({ conferenceCount }, before) =>
      before?.drain && !before.drain.done
        ? `uncordoned, its drain is cancelled and ${conferenceCount} conferences stay`
        : "uncordoned",
    words: SERVER_WORDS,
    idOf: ({ serverId }) => serverId,
    resource: async () => (await import("../resources/server.ts")).serverResource,
    before: async (client, serverId, signal) =>
      (await client.servers.getServer({ serverId }, { signal })).server,
    call: async (client, serverId, signal) =>
      (await client.servers.uncordonServer({ serverId }, { signal })).server,
    help: "New conferences may be placed on them at once. What a drain has moved stays where it is now.",
  });
}
