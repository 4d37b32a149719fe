import { clone, create, equals, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { timestampFromMs } from "../../common/time.ts";
import { ServerRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { type Server, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import { heardWithinMs, judgeRegistration } from "../health/standing.ts";
import type { ServerEntry, View } from "../view/view.ts";
import { catchUp, contention, type OperationContext, requireFresh, writerOf } from "./context.ts";

/** Others that write the same server at the same moment are let pass this often. */
const MAX_TRIES = 10;

/**
 * Makes a server known or tells of its changes. Another instance_id than before begins a new incarnation.
 * @param restartWithinMs for how long failures are its restart, which its agent announces; 0 for not at all
 */
export function registerServer(
  context: OperationContext,
  given: Server,
  restartWithinMs: number,
  signal: AbortSignal,
) {
  return writeServer(
    context,
    given.serverId,
    (standing, nowMs) => {
      const before = standing?.server;
      const isNewLife = before?.instanceId !== given.instanceId;
      const { state, health } = judgeRegistration(before, {
        isNewLife,
        restartWithinMs,
        nowMs,
        unheardMs: heardWithinMs(context.settings.detection),
      });
      return create(ServerSchema, {
        serverId: given.serverId,
        agentAddress: given.agentAddress,
        capacity: given.capacity,
        region: given.region,
        labels: given.labels,
        driver: given.driver,
        instanceId: given.instanceId,
        incarnation: (before?.incarnation ?? 0n) + (isNewLife ? 1n : 0n),
        state,
        cordoned: before?.cordoned ?? false,
        registerTime: (isNewLife ? undefined : before?.registerTime) ?? timestampFromMs(nowMs),
        ...(health ? { health } : {}),
        ...(before?.drain ? { drain: before.drain } : {}),
      });
    },
    signal,
  );
}

/** Closes a server to new conferences, or opens it again, which also ends its drain. */
export function setCordoned(
  context: OperationContext,
  serverId: string,
  cordoned: boolean,
  signal: AbortSignal,
) {
  return writeServer(
    context,
    serverId,
    () => {
      const server = clone(ServerSchema, requireServer(context, serverId).server);
      if (!cordoned) delete server.drain;
      return Object.assign(server, { cordoned });
    },
    signal,
  );
}

/** Forgets a server that hosts nothing. */
export async function removeServer(context: OperationContext, serverId: string, signal: AbortSignal) {
  requireFresh(context);
  const { keys, view } = context;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const standing = view.servers.get(serverId);
    if (!standing) return;
    // Even a void dispatch counts: were the server known anew, its first incarnation would bring it back to life.
    const hosted = view.hostingOf(serverId).named.size;
    if (hosted > 0) {
      throw statusError(
        Code.FailedPrecondition,
        ErrorReason.SERVER_IN_USE,
        `server ${serverId} is named by ${hosted} dispatches; cordon it and wait, or end them, before removing it`,
        { metadata: { server_id: serverId } },
      );
    }
    const reservation = keys.reservation(serverId);
    const modRevision = view.reservationRevision(serverId);
    // Whoever places a conference here meanwhile rewrites the reservation, and so this fails.
    const fences = [{ key: reservation, modRevision }];
    const writes = [{ key: keys.server(serverId), modRevision: standing.modRevision, value: undefined }];
    const result = await context.write("server", fences, writes, signal);
    await catchUp(context, result.revision, signal);
    if (!result.fenced && result.written.size > 0) return;
  }
  throw contention(`server ${serverId}`);
}

/** Writes a server on the condition that it is still as it was decided on; what changes nothing is not written. */
export async function writeServer(
  context: OperationContext,
  serverId: string,
  next: (standing: ServerEntry | undefined, nowMs: number) => Server,
  signal: AbortSignal,
): Promise<Server> {
  requireFresh(context);
  const { keys, view, logger } = context;
  const key = keys.server(serverId);
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const standing = view.servers.get(serverId);
    const writer = writerOf(context);
    const server = next(standing, writer.nowMs);
    if (standing && equals(ServerSchema, standing.server, server)) return toServer(view, standing);
    const { attemptId } = writer;
    const value = toBinary(ServerRecordSchema, create(ServerRecordSchema, { server, attemptId }));
    const result = await context.write(
      "server",
      [],
      [{ key, modRevision: standing?.modRevision ?? 0n, value }],
      signal,
    );
    await catchUp(context, result.revision, signal);
    if (result.fenced || !result.written.has(key)) continue;
    if (standing?.server.incarnation !== server.incarnation) {
      logger.info(
        { server: serverId, incarnation: String(server.incarnation) },
        "server began a new incarnation",
      );
    }
    return toServer(view, requireServer(context, serverId));
  }
  throw contention(`server ${serverId}`);
}

/** @throws {ConnectError} NOT_FOUND */
export function requireServer({ view }: OperationContext, serverId: string): ServerEntry {
  const entry = view.servers.get(serverId);
  if (entry) return entry;
  throw statusError(Code.NotFound, ErrorReason.SERVER_NOT_FOUND, `there is no server ${serverId}`, {
    metadata: { server_id: serverId },
  });
}

/** The server as callers see it, with what it hosts now. */
export function toServer(view: View, { server }: Pick<ServerEntry, "server">): Server {
  const { reservedUnits, conferences } = view.hostingOf(server.serverId);
  const shown = Object.assign(clone(ServerSchema, server), {
    reservedUnits,
    conferenceCount: conferences.size,
  });
  if (shown.drain) shown.drain.done = conferences.size === 0;
  return shown;
}
