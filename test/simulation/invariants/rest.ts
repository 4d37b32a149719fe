import { timestampMs } from "../../../common/time.ts";
import { Conference_State as State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { type Server, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import {
  hasValidDispatch,
  isOver,
  type Picture,
  type PicturedConference,
  reservedUnits,
} from "../picture.ts";
import { EPOCH_MS } from "../simulated-process.ts";
import type { World } from "../world.ts";
import type { RoomChecks } from "./rooms.ts";

/** When nothing is wrong, a room that is over is stopped within this time; one that was moved lingers for two seconds. */
const STOP_MS = 6_000;

/**
 * What is wrong with a world that was left alone for long enough (I3, I2): everything accepted is where it belongs, and
 * no room is left of anything else.
 */
export function* checkRest(
  world: World,
  picture: Picture,
  accepted: ReadonlySet<string>,
  rooms: Pick<RoomChecks, "staleMs">,
  serverChangedMs: (serverId: string) => number,
): Generator<string> {
  const wallMs = EPOCH_MS + world.time.nowMs;
  for (const id of accepted) {
    const entry = picture.conferences.get(id);
    if (entry) yield* checkAtRest(world, picture, entry, wallMs, serverChangedMs);
    else yield `I3: ${id} was accepted and is not there`;
  }
  for (const { id } of world.dispatchers) {
    if (!picture.dispatchers.has(id)) yield `I3: dispatcher ${id} is not registered`;
  }
  for (const { id, agent, instanceId } of world.servers) {
    const server = picture.servers.get(id);
    if (!server) yield `I3: server ${id} is not registered`;
    else if (agent.state !== "running") continue;
    else if (server.instanceId !== instanceId)
      yield `I5: server ${id} lives as ${instanceId} and is registered as ${server.instanceId}`;
    else if (server.state !== Server_State.UP && !isDampened(server, wallMs))
      yield `I8: server ${id} is well and ${Server_State[server.state]}: ${server.health?.message}`;
  }
  yield* checkRooms(world, rooms);
}

function* checkAtRest(
  world: World,
  picture: Picture,
  entry: PicturedConference,
  wallMs: number,
  serverChangedMs: (serverId: string) => number,
): Generator<string> {
  const { id, conference, startMs, endMs } = entry;
  if (isOver(entry) || startMs > wallMs + world.scenario.windowMs - MARGIN_MS || endMs <= wallMs + MARGIN_MS)
    return;
  const { dispatch, weight } = conference;
  if (hasValidDispatch(picture, entry) && dispatch) {
    const server = world.servers.find((one) => one.id === dispatch.serverId);
    const known = picture.servers.get(dispatch.serverId);
    if (server?.agent.state !== "running" || server.instanceId !== known?.instanceId)
      yield `I3: ${id} is left on ${dispatch.serverId}, which is dead`;
    else if (server.rooms.get(id) !== dispatch.epoch)
      yield `I3: ${id} is dispatched to ${server.id} under epoch ${dispatch.epoch}, which hosts ${server.rooms.get(id) ?? "no room of it"}`;
    return;
  }
  for (const server of picture.servers.values()) {
    if (server.state !== Server_State.UP || server.cordoned) continue;
    const lastMs = Math.max(freedMs(picture, server.serverId), serverChangedMs(server.serverId));
    if (world.time.nowMs - lastMs < ROOM_MS) continue;
    if (server.capacity - reservedUnits(picture, server.serverId) >= weight) {
      yield `I3: ${id} is ${State[conference.state]} with room on ${server.serverId}: ${conference.failure?.message ?? ""}`;
      return;
    }
  }
}

/** What was given back for want of room is tried again after fifteen seconds at the latest. */
const ROOM_MS = 16_500;

/** What is about to begin or end may be on its way. */
const MARGIN_MS = 3_000;

/** When room on a server last changed. */
function freedMs(picture: Picture, serverId: string): number {
  let lastMs = 0;
  for (const { conference, changedMs } of picture.conferences.values()) {
    if (conference.dispatch?.serverId === serverId) lastMs = Math.max(lastMs, changedMs);
  }
  return lastMs;
}

function isDampened({ health }: Server, wallMs: number): boolean {
  const { holdUntil } = health ?? {};
  return holdUntil !== undefined && timestampMs(holdUntil) > wallMs - MARGIN_MS;
}

/** By now the agents are at rest, too. */
function* checkRooms(world: World, checks: Pick<RoomChecks, "staleMs">): Generator<string> {
  for (const server of world.servers) {
    if (server.process.state !== "running") continue;
    for (const [conferenceId, epoch] of server.rooms) {
      const staleMs = checks.staleMs(server, conferenceId);
      if (staleMs > STOP_MS)
        yield `I2: ${server.id} hosts ${conferenceId} under epoch ${epoch}, which is over for ${Math.round(staleMs)} ms`;
    }
  }
}
