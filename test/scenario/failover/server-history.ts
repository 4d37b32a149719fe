import type { ConvokeClient } from "../../../client/transport/client.ts";
import { watchServers } from "../../../client/watch.ts";
import { type Server, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { ServerEvent } from "../../../proto/gen/convoke/v1/server_service_pb.js";
import { recordWatch, type WatchHistory } from "./watch-history.ts";

/** All that WatchServers has told. */
export interface ServerHistory extends WatchHistory<ServerEvent> {
  readonly servers: ReadonlyMap<string, Server>;
  stateOf(serverId: string): Server_State | undefined;
  /** The states of a server after the first `from` events, each once in a row, once everything so far has been told. */
  statesSince(from: number, serverId?: string): Promise<string[]>;
}

export function recordServers(client: ConvokeClient): ServerHistory {
  const servers = new Map<string, Server>();
  const history = recordWatch<ServerEvent>({
    watch: (signal) => watchServers(client.servers, { signal }),
    peek: (revision, signal) => client.servers.watchServers({ revision }, { signal }),
    onEvent: ({ server }) => void (server && servers.set(server.serverId, server)),
  });
  return Object.assign(history, {
    servers,
    stateOf: (serverId: string) => servers.get(serverId)?.state,
    async statesSince(from: number, serverId?: string) {
      await history.caughtUp();
      const states = history.told
        .slice(from)
        .flatMap(({ event: { server } }) =>
          server && (serverId ?? server.serverId) === server.serverId
            ? [`${server.serverId} ${Server_State[server.state]}`]
            : [],
        );
      return states.filter((state, index) => state !== states[index - 1]);
    },
  });
}
