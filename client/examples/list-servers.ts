/**
 * What an operator's script does: goes through every conference server, a page at a time, and tells how full it is.
 *
 *     CONVOKE_ENDPOINT=127.0.0.1:7400 npx node client/examples/list-servers.ts
 */
// In a project of your own: from "convoke"
import { createConvokeClient, paginate } from "../index.ts";

using client = createConvokeClient({ endpoint: process.env.CONVOKE_ENDPOINT ?? "127.0.0.1:7400" });

const servers = paginate(
  (pageToken) => client.servers.listServers({ pageToken }),
  (page) => page.servers,
);
for await (const { serverId, reservedUnits, capacity, conferenceCount } of servers) {
  const percent = Math.round((100 * reservedUnits) / capacity);
  console.log(
    `${serverId}: ${conferenceCount} conferences, ${reservedUnits} of ${capacity} units (${percent} %)`,
  );
}
