import { Server_State, ServerSchema } from "../../../proto/gen/convoke/v1/server_pb.js";
import { ageCell, labelsCell, textCell } from "../cells.ts";
import { causeWord, cordonCell, holdCell } from "../health-words.ts";
import type { Resource } from "../output.ts";

export const serverResource: Resource<typeof ServerSchema> = {
  singular: "server",
  plural: "servers",
  schema: ServerSchema,
  columns: [
    { header: "ID", cell: (server) => server.serverId },
    { header: "STATE", cell: (server) => Server_State[server.state] ?? String(server.state) },
    { header: "WHY", cell: (server) => causeWord(server.health) },
    {
      header: "SINCE",
      cell: (server, nowMs) => ageCell(server.health?.changeTime ?? server.registerTime, nowMs),
    },
    { header: "HOLD", cell: holdCell },
    { header: "CORDON", cell: cordonCell },
    { header: "UNITS", cell: (server) => `${server.reservedUnits}/${server.capacity}` },
    { header: "CONFERENCES", cell: (server) => String(server.conferenceCount) },
    { header: "REGION", cell: (server) => textCell(server.region) },
    { header: "AGENT", cell: (server) => textCell(server.agentAddress) },
  ],
  wideColumns: [
    { header: "DRIVER", cell: (server) => textCell(server.driver) },
    { header: "INCARNATION", cell: (server) => String(server.incarnation) },
    { header: "AGE", cell: (server, nowMs) => ageCell(server.registerTime, nowMs) },
    { header: "FAILURES", cell: (server) => String(server.health?.failures ?? 0) },
    { header: "LABELS", cell: (server) => labelsCell(server.labels) },
    { header: "MESSAGE", cell: (server) => textCell(server.health?.message ?? "") },
  ],
};
