import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { transitionCommand } from "../transition.ts";
import { CONFERENCE_WORDS } from "../words.ts";

/** `convoke end [conference] ID…` */
export function endCommand(context: CliContext): Command {
  return transitionCommand(context, {
    name: "end",
    description: "Say that active conferences are over",
    done: "ended",
    words: CONFERENCE_WORDS,
    idOf: ({ conferenceId }) => conferenceId,
    resource: async () => (await import("../resources/conference.ts")).conferenceResource,
    call: async (client, conferenceId, signal) =>
      (await client.conferences.endConference({ conferenceId }, { signal })).conference,
    help: "Their dispatches end. Ending twice succeeds; a conference that never began is cancelled instead.",
  });
}
