import { type Server, Server_State, ServerSchema } from "../../../proto/gen/convoke/v1/server_pb.js";
import { ageCell, labelsCell, textCell } from "../cells.ts";
import type { Resource } from "../output.ts";

export const serverResource: Resource<typeof ServerSchema> = {
  singular: "server",
  plural: "servers",
  schema: ServerSchema,
  columns: [
    { header: "ID", cell: (server) => server.serverId },
    { header: "STATE", cell: stateCell },
    { header: "UNITS", cell: (server) => `${server.reservedUnits}/${server.capacity}` },
    { header: "CONFERENCES", cell: (server) => String(server.conferenceCount) },
    { header: "REGION", cell: (server) => textCell(server.region) },
    { header: "DRIVER", cell: (server) => textCell(server.driver) },
    { header: "INCARNATION", cell: (server) => String(server.incarnation) },
    { header: "AGE", cell: (server, nowMs) => ageCell(server.registerTime, nowMs) },
    { header: "AGENT", cell: (server) => textCell(server.agentAddress) },
    { header: "LABELS", cell: (server) => labelsCell(server.labels) },
  ],
};

function stateCell({ state, cordoned }: Server): string {
  const name = Server_State[state] ?? String(state);
  return cordoned ? `${name},CORDONED` : name;
}
