import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { transitionCommand } from "../transition.ts";
import { CONFERENCE_WORDS } from "../words.ts";

/** `convoke cancel [conference] ID…` */
export function cancelCommand(context: CliContext): Command {
  return transitionCommand(context, {
    name: "cancel",
    description: "Call conferences off, wherever they stand",
    done: "cancelled",
    words: CONFERENCE_WORDS,
    idOf: ({ conferenceId }) => conferenceId,
    resource: async () => (await import("../resources/conference.ts")).conferenceResource,
    call: async (client, conferenceId, signal) =>
      (await client.conferences.cancelConference({ conferenceId }, { signal })).conference,
    help: "Their dispatches end. Cancelling twice succeeds; a conference that has ended cannot be cancelled.",
  });
}
