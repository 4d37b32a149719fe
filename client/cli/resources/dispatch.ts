import { DispatchSchema } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { ageCell, textCell, timeCell } from "../cells.ts";
import type { Resource } from "../output.ts";

export const dispatchResource: Resource<typeof DispatchSchema> = {
  singular: "dispatch",
  plural: "dispatches",
  schema: DispatchSchema,
  columns: [
    { header: "CONFERENCE", cell: (dispatch) => dispatch.conferenceId },
    { header: "SERVER", cell: (dispatch) => dispatch.serverId },
    { header: "DISPATCHER", cell: (dispatch) => dispatch.dispatcherId },
    { header: "EPOCH", cell: (dispatch) => String(dispatch.epoch) },
    { header: "UNTIL", cell: (dispatch) => timeCell(dispatch.validUntil) },
    { header: "AGE", cell: (dispatch, nowMs) => ageCell(dispatch.commitTime, nowMs) },
    { header: "ADDRESS", cell: (dispatch) => textCell(dispatch.address) },
  ],
};
