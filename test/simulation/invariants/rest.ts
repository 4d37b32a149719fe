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

/** Rooms that never got into the table are asked about after a minute, and then stopped. */
const UNCONFIRMED_MS = 75_000;

/**
 * What is wrong with a world that was left alone for long enough (I3, I2): everything accepted is where it belongs, and
 * no room is left of anything else.
 */
export function* checkRest(world: World, picture: Picture, accepted: ReadonlySet<string>): Generator<string> {
  const wallMs = EPOCH_MS + world.time.nowMs;
  for (const id of accepted) {
    const entry = picture.conferences.get(id);
    if (entry) yield* checkAtRest(world, picture, entry, wallMs);
    else yield `I3: ${id} was accepted and is not there`;
  }
  for (const { id } of world.dispatchers) {
    if (!picture.dispatchers.has(id)) yield `I3: dispatcher ${id} is not registered`;
  }
  for (const { id, process, instanceId } of world.servers) {
    const server = picture.servers.get(id);
    if (!server) yield `I3: server ${id} is not registered`;
    else if (process.state !== "running") continue;
    else if (server.instanceId !== instanceId)
      yield `I5: server ${id} lives as ${instanceId} and is registered as ${server.instanceId}`;
    else if (server.state !== Server_State.UP && !isDampened(server, wallMs))
      yield `I8: server ${id} is well and ${Server_State[server.state]}: ${server.health?.message}`;
  }
  yield* checkRooms(world, picture);
}

function* checkAtRest(
  world: World,
  picture: Picture,
  entry: PicturedConference,
  wallMs: number,
): Generator<string> {
  const { id, conference, startMs, endMs } = entry;
  if (isOver(entry) || startMs > wallMs + world.scenario.windowMs - MARGIN_MS || endMs <= wallMs + MARGIN_MS)
    return;
  const { dispatch, weight } = conference;
  if (hasValidDispatch(picture, entry) && dispatch) {
    const server = world.servers.find((one) => one.id === dispatch.serverId);
    const known = picture.servers.get(dispatch.serverId);
    if (server?.process.state !== "running" || server.instanceId !== known?.instanceId)
      yield `I3: ${id} is left on ${dispatch.serverId}, which is dead`;
    else if (server.rooms.get(id) !== dispatch.epoch)
      yield `I3: ${id} is dispatched to ${server.id} under epoch ${dispatch.epoch}, which hosts ${server.rooms.get(id) ?? "no room of it"}`;
    return;
  }
  for (const server of picture.servers.values()) {
    if (server.state !== Server_State.UP || server.cordoned) continue;
    if (server.capacity - reservedUnits(picture, server.serverId) >= weight) {
      yield `I3: ${id} is ${State[conference.state]} with room on ${server.serverId}: ${conference.failure?.message ?? ""}`;
      return;
    }
  }
}

/** What is about to begin or end may be on its way. */
const MARGIN_MS = 3_000;

function isDampened({ health }: Server, wallMs: number): boolean {
  const { holdUntil } = health ?? {};
  return holdUntil !== undefined && timestampMs(holdUntil) > wallMs - MARGIN_MS;
}

function* checkRooms({ servers, time }: World, picture: Picture): Generator<string> {
  for (const { id, rooms, process, hosted, instanceId } of servers) {
    if (process.state !== "running") continue;
    for (const [conferenceId, epoch] of rooms) {
      const entry = picture.conferences.get(conferenceId);
      const dispatch = entry?.conference.dispatch;
      const isHere =
        dispatch?.serverId === id &&
        dispatch.epoch === epoch &&
        hasValidDispatch(picture, entry as PicturedConference);
      if (isHere) continue;
      const sinceMs = hosted.get(conferenceId)?.epochSinceMs ?? 0;
      const mayBeUnconfirmed = (dispatch?.epoch ?? 0n) < epoch && time.nowMs - sinceMs < UNCONFIRMED_MS;
      if (!mayBeUnconfirmed)
        yield `I2: ${id} (${instanceId}) still hosts ${conferenceId} under epoch ${epoch}; the table has ${dispatch?.serverId} under ${dispatch?.epoch}`;
    }
  }
}
