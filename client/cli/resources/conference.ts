import {
  type Conference,
  Conference_State,
  ConferenceSchema,
} from "../../../proto/gen/convoke/v1/conference_pb.js";
import { ageCell, EMPTY_CELL, spanCell, textCell, timeCell } from "../cells.ts";
import type { Resource } from "../output.ts";

export const conferenceResource: Resource<typeof ConferenceSchema> = {
  singular: "conference",
  plural: "conferences",
  schema: ConferenceSchema,
  columns: [
    { header: "ID", cell: (conference) => conference.conferenceId },
    { header: "STATE", cell: (conference) => Conference_State[conference.state] ?? String(conference.state) },
    { header: "START", cell: (conference) => timeCell(conference.startTime) },
    { header: "LENGTH", cell: (conference) => spanCell(conference.startTime, conference.endTime) },
    { header: "WEIGHT", cell: (conference) => String(conference.weight) },
    { header: "REGION", cell: (conference) => textCell(conference.region) },
    { header: "SERVER", cell: (conference) => conference.dispatch?.serverId ?? EMPTY_CELL },
    { header: "AGE", cell: (conference, nowMs) => ageCell(conference.createTime, nowMs) },
    { header: "NAME", cell: (conference: Conference) => textCell(conference.displayName) },
  ],
};
