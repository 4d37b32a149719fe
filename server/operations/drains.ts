import { clone, create } from "@bufbuild/protobuf";
import { timestampFromMs } from "../../common/time.ts";
import { Server_DrainSchema, Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import type { OperationContext } from "./context.ts";
import { requireServer, writeServer } from "./servers.ts";

/**
 * Begins to empty a server, or gives the drain under way another deadline. Nothing else is written: what is to be moved
 * follows from it (`server/dispatch/moves.ts`), and how far it is can be counted at any time.
 */
export function drainServer(
  context: OperationContext,
  serverId: string,
  deadlineMs: number,
  signal: AbortSignal,
) {
  return writeServer(
    context,
    serverId,
    (_, nowMs) => {
      const { server } = requireServer(context, serverId);
      const drain = create(Server_DrainSchema, {
        beginTime: server.drain?.beginTime ?? timestampFromMs(nowMs),
        deadline: timestampFromMs(Math.round(nowMs + deadlineMs)),
        // Of a server that is DOWN only the record tells.
        done: server.state === Server_State.DOWN && (server.drain?.done ?? false),
        conferenceCount: server.drain?.conferenceCount ?? context.view.hostingOf(serverId).conferences.size,
      });
      return Object.assign(clone(ServerSchema, server), { cordoned: true, drain });
    },
    signal,
  );
}
