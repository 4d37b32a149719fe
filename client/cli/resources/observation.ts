import {
  Observation_Verdict,
  ObservationSchema,
} from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ageCell, textCell } from "../cells.ts";
import type { Resource } from "../output.ts";

export const observationResource: Resource<typeof ObservationSchema> = {
  singular: "observation",
  plural: "observations",
  schema: ObservationSchema,
  columns: [
    { header: "SERVER", cell: (observation) => observation.serverId },
    { header: "OBSERVER", cell: (observation) => textCell(observation.dispatcherId) },
    { header: "VERDICT", cell: ({ verdict }) => Observation_Verdict[verdict] ?? String(verdict) },
    { header: "IN-A-ROW", cell: (observation) => String(observation.inARow) },
    { header: "COUNTS", cell: (observation) => (observation.counts ? "yes" : "no") },
    { header: "INCARNATION", cell: (observation) => String(observation.incarnation) },
    { header: "AGE", cell: (observation, nowMs) => ageCell(observation.reportTime, nowMs) },
    { header: "DETAIL", cell: (observation) => textCell(observation.detail) },
  ],
};
