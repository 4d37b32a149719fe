import { DispatcherSchema } from "../../../proto/gen/convoke/v1/dispatcher_pb.js";
import { ageCell, durationCell, labelsCell } from "../cells.ts";
import type { Resource } from "../output.ts";

export const dispatcherResource: Resource<typeof DispatcherSchema> = {
  singular: "dispatcher",
  plural: "dispatchers",
  schema: DispatcherSchema,
  columns: [
    { header: "ID", cell: (dispatcher) => dispatcher.dispatcherId },
    { header: "EPOCH", cell: (dispatcher) => String(dispatcher.epoch) },
    { header: "WEIGHT", cell: (dispatcher) => String(dispatcher.weight) },
    { header: "TTL", cell: (dispatcher) => durationCell(dispatcher.ttl) },
    { header: "AGE", cell: (dispatcher, nowMs) => ageCell(dispatcher.registerTime, nowMs) },
    { header: "LABELS", cell: (dispatcher) => labelsCell(dispatcher.labels) },
  ],
};
