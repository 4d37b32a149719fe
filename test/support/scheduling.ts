import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "../../common/time.ts";
import type { ConferenceSchema } from "../../proto/gen/convoke/v1/conference_pb.js";
import type { NewDispatchSchema, Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Server } from "../../proto/gen/convoke/v1/server_pb.js";
import type { Clients, ControlPlane } from "./control-plane.ts";

export type ConferenceInit = Exclude<MessageInitShape<typeof ConferenceSchema>, { $typeName: string }>;

const MINUTE_MS = 60_000;

/** A conference that starts in a minute and lasts an hour, unless told otherwise. */
export function conference(
  { clock }: Pick<ControlPlane, "clock">,
  conferenceId: string,
  init: ConferenceInit & { startInMs?: number; lastsMs?: number } = {},
): ConferenceInit {
  const { startInMs = MINUTE_MS, lastsMs = 60 * MINUTE_MS, ...rest } = init;
  const startMs = clock.wallMs() + startInMs;
  return {
    conferenceId,
    startTime: timestampFromMs(startMs),
    endTime: timestampFromMs(startMs + lastsMs),
    ...rest,
  };
}

/** Schedules conferences `<prefix>-0000`, … that start a second after each other. */
export async function scheduleMany(plane: ControlPlane, count: number, prefix = "c"): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(4, "0")}`);
  for (let from = 0; from < count; from += 1000) {
    await plane.conferences.batchCreateConferences({
      requests: ids.slice(from, from + 1000).map((id, index) => ({
        conference: conference(plane, id, { startInMs: (from + index) * 10 }),
      })),
    });
  }
  return ids;
}

export async function registerDispatcher(clients: Clients, dispatcherId: string, ttlMs?: number) {
  const { dispatcher } = await clients.dispatchers.registerDispatcher({
    dispatcherId,
    ...(ttlMs === undefined ? {} : { ttl: { seconds: BigInt(ttlMs / 1000) } }),
  });
  if (!dispatcher) throw new Error("no dispatcher in the answer");
  return { dispatcherId, epoch: dispatcher.epoch };
}

export async function registerServer(
  clients: Clients,
  serverId: string,
  { capacity = 1000, instanceId = "first" } = {},
): Promise<Server> {
  const { server } = await clients.servers.registerServer({
    server: { serverId, agentAddress: "127.0.0.1:7500", capacity, instanceId, driver: "none" },
  });
  if (!server) throw new Error("no server in the answer");
  return server;
}

/** Takes everything that a fetch streams. */
export async function fetchAll(
  clients: Clients,
  request: Parameters<Clients["dispatchers"]["fetchTasks"]>[0],
  options?: Parameters<Clients["dispatchers"]["fetchTasks"]>[1],
): Promise<Task[]> {
  const tasks: Task[] = [];
  for await (const message of clients.dispatchers.fetchTasks(request, options)) tasks.push(...message.tasks);
  return tasks;
}

/** The dispatch of a task on a server. */
export function dispatchOf(
  { conferenceId, dispatchEpoch }: Task,
  { serverId, incarnation }: Server,
): Exclude<MessageInitShape<typeof NewDispatchSchema>, { $typeName: string }> {
  return { conferenceId, dispatchEpoch, serverId, incarnation, address: `ws://${serverId}/${conferenceId}` };
}
