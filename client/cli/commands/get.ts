import { Command, Option } from "commander";
import { paginate } from "../../paginate.ts";
import type { CliContext } from "../context.ts";
import { type Getter, getterCommand } from "../get-command.ts";
import { timeParser } from "../options.ts";
import type { conferenceResource } from "../resources/conference.ts";
import type { dispatchResource } from "../resources/dispatch.ts";
import type { dispatcherResource } from "../resources/dispatcher.ts";
import type { serverResource } from "../resources/server.ts";
import { CONFERENCE_STATES, SERVER_STATES, stateCollector } from "../states.ts";
import { getBrakeCommand, getObservationsCommand } from "./get-health.ts";

/** `convoke get conferences|dispatches|dispatchers|servers|observations|brake [ID…]`. */
export function getCommand(context: CliContext): Command {
  return new Command("get")
    .description("Print conferences, dispatches, dispatchers, servers, observations or the brake")
    .usage("[options] <kind> [ID...]")
    .addCommand(getterCommand(context, conferences(context)))
    .addCommand(getterCommand(context, dispatches))
    .addCommand(getterCommand(context, dispatchers))
    .addCommand(getterCommand(context, servers))
    .addCommand(getObservationsCommand(context))
    .addCommand(getBrakeCommand(context))
    .addHelpText(
      "after",
      `
Examples:
  convoke get conferences --state active,failed --from now --until +1h
  convoke get dispatch standup-2030-01-31 -o json
  convoke get servers -o wide
  convoke get observations s1
  convoke get servers -o yaml`,
    );
}

interface ConferenceFilters {
  readonly state?: string[];
  readonly from?: number;
  readonly until?: number;
  readonly series?: string;
  readonly server?: string;
}

function conferences(context: CliContext): Getter<typeof conferenceResource.schema, ConferenceFilters> {
  const parseTime = timeParser(context.clock);
  return {
    words: ["conferences", "conference", "conf"],
    description: "Print conferences in order of their IDs",
    filters: [
      stateOption(CONFERENCE_STATES),
      new Option(
        "--from <time>",
        "only those that start at or after this (RFC 3339, now, +10m, -1h)",
      ).argParser(parseTime),
      new Option("--until <time>", "only those that start before this").argParser(parseTime),
      new Option("--series <uid>", "only those of this calendar series"),
      new Option("--server <id>", "only those placed on this server"),
    ],
    resource: async () => (await import("../resources/conference.ts")).conferenceResource,
    get: async (client, conferenceId, signal) =>
      (await client.conferences.getConference({ conferenceId }, { signal })).conference,
    async *list(client, { state = [], from, until, series = "", server }, { pageSize, signal }) {
      const [{ Conference_State }, { timestampFromMs }] = await Promise.all([
        import("../../../proto/gen/convoke/v1/conference_pb.js"),
        import("../../../common/time.ts"),
      ]);
      const request = {
        pageSize,
        states: state.map((name) => Conference_State[name as keyof typeof Conference_State]),
        ...(from === undefined ? {} : { startTimeFrom: timestampFromMs(from) }),
        ...(until === undefined ? {} : { startTimeUntil: timestampFromMs(until) }),
        seriesId: series,
      };
      const all = paginate(
        (pageToken) => client.conferences.listConferences({ ...request, pageToken }, { signal }),
        (page) => page.conferences,
      );
      for await (const conference of all)
        if (server === undefined || conference.dispatch?.serverId === server) yield conference;
    },
  };
}

const dispatches: Getter<typeof dispatchResource.schema, { readonly server?: string }> = {
  words: ["dispatches", "dispatch"],
  description: "Print the dispatch table: where conferences are hosted",
  filters: [new Option("--server <id>", "only those on this server")],
  resource: async () => (await import("../resources/dispatch.ts")).dispatchResource,
  get: async (client, conferenceId, signal) =>
    (await client.conferences.getDispatch({ conferenceId }, { signal })).dispatch,
  list: (client, { server: serverId = "" }, { pageSize, signal }) =>
    paginate(
      (pageToken) => client.conferences.listDispatches({ pageSize, pageToken, serverId }, { signal }),
      (page) => page.dispatches,
    ),
};

const dispatchers: Getter<typeof dispatcherResource.schema, object> = {
  words: ["dispatchers", "dispatcher"],
  description: "Print the registered dispatchers",
  filters: [],
  resource: async () => (await import("../resources/dispatcher.ts")).dispatcherResource,
  async get(client, id, signal) {
    const all = dispatchers.list(client, {}, { pageSize: 1_000, signal });
    for await (const dispatcher of all) if (dispatcher.dispatcherId === id) return dispatcher;
    return undefined;
  },
  list: (client, _filters, { pageSize, signal }) =>
    paginate(
      (pageToken) => client.dispatchers.listDispatchers({ pageSize, pageToken }, { signal }),
      (page) => page.dispatchers,
    ),
};

const servers: Getter<typeof serverResource.schema, { readonly state?: string[] }> = {
  words: ["servers", "server"],
  description: "Print the conference servers: their state, why and since when, and what they host",
  filters: [stateOption(SERVER_STATES)],
  resource: async () => (await import("../resources/server.ts")).serverResource,
  note: async (client, signal) => (await import("../brake-note.ts")).readBrakeNote(client, signal),
  get: async (client, serverId, signal) => (await client.servers.getServer({ serverId }, { signal })).server,
  async *list(client, { state }, { pageSize, signal }) {
    const { Server_State } = await import("../../../proto/gen/convoke/v1/server_pb.js");
    const all = paginate(
      (pageToken) => client.servers.listServers({ pageSize, pageToken }, { signal }),
      (page) => page.servers,
    );
    for await (const server of all) if (!state || state.includes(Server_State[server.state])) yield server;
  },
};

function stateOption(states: readonly string[]): Option {
  return new Option("--state <states>", `only those in these states: ${states.join(", ")}`).argParser(
    stateCollector(states),
  );
}
