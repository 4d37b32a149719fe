import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { ReservationRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Writer } from "../dispatch/records.ts";
import type { Fence } from "../store/conditional-writes.ts";
import type { OperationContext } from "./context.ts";

/**
 * The fences of a write that adds units to a server. Whoever adds units rewrites the server's reservation key on the
 * condition that it is as the view has it; so the view has every addition, and two replicas cannot fill the same room.
 * What takes units away needs no fence, since it only makes room.
 */
export function reservationFences(
  { keys, view }: OperationContext,
  serverId: string,
  writer: Writer,
): Fence[] {
  return [
    { key: keys.server(serverId), modRevision: view.servers.get(serverId)?.modRevision ?? 0n },
    {
      key: keys.reservation(serverId),
      modRevision: view.reservationRevision(serverId),
      value: toBinary(
        ReservationRecordSchema,
        create(ReservationRecordSchema, { attemptId: writer.attemptId }),
      ),
    },
  ];
}

/** @throws {ConnectError} FAILED_PRECONDITION (CAPACITY_EXCEEDED) when the server has not that many units free */
export function capacityFence(
  context: OperationContext,
  serverId: string,
  addedUnits: number,
  writer: Writer,
): Fence[] {
  const capacity = context.view.servers.get(serverId)?.server.capacity ?? 0;
  const freeUnits = capacity - context.view.hostingOf(serverId).reservedUnits;
  if (addedUnits > freeUnits) {
    throw statusError(
      Code.FailedPrecondition,
      ErrorReason.CAPACITY_EXCEEDED,
      `server ${serverId} has ${Math.max(0, freeUnits)} of ${capacity} units free, and the change needs ${addedUnits} more`,
      { metadata: { server_id: serverId } },
    );
  }
  return reservationFences(context, serverId, writer);
}
