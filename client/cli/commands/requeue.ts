import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { transitionCommand } from "../transition.ts";
import { CONFERENCE_WORDS } from "../words.ts";

/** `convoke requeue [conference] ID…` */
export function requeueCommand(context: CliContext): Command {
  return transitionCommand(context, {
    name: "requeue",
    description: "Try conferences again that could not be placed",
    done: "requeued",
    words: CONFERENCE_WORDS,
    idOf: ({ conferenceId }) => conferenceId,
    resource: async () => (await import("../resources/conference.ts")).conferenceResource,
    call: async (client, conferenceId, signal) =>
      (await client.conferences.requeueConference({ conferenceId }, { signal })).conference,
    help: "Only FAILED conferences are requeued: `convoke get conferences --state failed` lists them.",
  });
}
