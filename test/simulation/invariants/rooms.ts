import { isolationMs } from "../../../common/detection.ts";
import type { ConferenceServer } from "../conference-server.ts";
import { hasValidDispatch, isOver, type Picture } from "../picture.ts";
import type { World } from "../world.ts";

/** How long reconcile may take once the agent can follow the dispatch table again: its longest back-off, and its turns. */
const RECONCILE_MS = 10_000;

/** What ending all rooms may take once the time has come. */
const END_MS = 1_500;

/** An agent follows the dispatch table within this time after the last trouble with the control plane. */
const FOLLOWING_MS = 12_000;

/** What is known of a room, by an agent that runs and can reach the control plane. */
interface Known {
  readonly epoch: bigint;
  /** Since when the table has it elsewhere or over, as far as was seen without a break. */
  staleSinceMs: number | undefined;
  /** Since when the table has it here, as far as was seen without a break. */
  wantedSinceMs: number | undefined;
  /** Whether the agent must have seen the row: what it never saw it asks about only after a minute. */
  isConfirmed: boolean;
}

/** Checks I2 where the rooms are: no epoch goes back, and none is hosted for long that the table has moved on from. */
export interface RoomChecks {
  starts(serverId: string, instanceId: string, conferenceId: string, epoch: bigint): Generator<string>;
  /** To be called again and again. */
  look(picture: Picture): Generator<string>;
  /** For how long the table has had the room elsewhere or over, in milliseconds. */
  staleMs(server: ConferenceServer, conferenceId: string): number;
}

export function createRoomChecks(world: World): RoomChecks {
  /** The highest epoch that each life of a server was asked to host, by conference. */
  const highest = new Map<string, bigint>();
  const known = new Map<string, Known>();
  /** Since when a running server hears nobody at all. */
  const alone = new Map<string, number>();
  const isolation = isolationMs(world.scenario.detection);

  function isAlone({ id, process }: ConferenceServer): boolean {
    const { network, replicas, dispatchers } = world;
    return (
      process.state === "running" && [...replicas, ...dispatchers].every((node) => network.isCut(id, node.id))
    );
  }

  return {
    *starts(id, instanceId, conferenceId, epoch) {
      const key = `${instanceId} ${conferenceId}`;
      const known = highest.get(key) ?? 0n;
      if (epoch < known) yield `I2: ${id} starts ${conferenceId} under epoch ${epoch} after ${known}`;
      else highest.set(key, epoch);
    },
    *look(picture) {
      const { nowMs } = world.time;
      for (const server of world.servers) {
        // The first have yet to start.
        if (!server.process) continue;
        const { rooms, id } = server;
        if (!isAlone(server)) alone.delete(id);
        else if (!alone.has(id)) alone.set(id, nowMs);
        const aloneMs = nowMs - Math.max(alone.get(id) ?? nowMs, world.network.lastArrivalMs(id));
        if (aloneMs > isolation + END_MS && rooms.size > 0)
          yield `I2: ${id} hears nobody for ${Math.round(aloneMs)} ms and still hosts ${[...rooms.keys()].join(", ")}`;
        for (const [conferenceId, epoch] of rooms) {
          const room = noteRoom(picture, server, conferenceId, epoch);
          const staleMs = nowMs - (room.staleSinceMs ?? nowMs);
          if (staleMs > isolation + RECONCILE_MS)
            yield `I2: ${id} hosts ${conferenceId} under epoch ${epoch}, which is over for ${Math.round(staleMs)} ms`;
        }
      }
    },
    staleMs: ({ instanceId }, conferenceId) =>
      world.time.nowMs - (known.get(`${instanceId} ${conferenceId}`)?.staleSinceMs ?? world.time.nowMs),
  };

  function noteRoom(picture: Picture, server: ConferenceServer, conferenceId: string, epoch: bigint): Known {
    const { nowMs } = world.time;
    const key = `${server.instanceId} ${conferenceId}`;
    let room = known.get(key);
    if (room?.epoch !== epoch) {
      room = { epoch, staleSinceMs: undefined, wantedSinceMs: undefined, isConfirmed: false };
      known.set(key, room);
    }
    const isAway = server.process.state !== "running" || world.controlPlaneTroubles > 0;
    const standing = isAway ? "unknown" : standingOf(picture, server, conferenceId, epoch);
    if (standing !== "wanted") room.wantedSinceMs = undefined;
    else room.wantedSinceMs ??= nowMs;
    if (nowMs - (room.wantedSinceMs ?? nowMs) > FOLLOWING_MS) room.isConfirmed = true;
    const isStale = standing === "elsewhere" || (standing === "over" && room.isConfirmed);
    if (!isStale) room.staleSinceMs = undefined;
    else room.staleSinceMs ??= nowMs;
    return room;
  }
}

/** What the table says of a room. What never got into it, its dispatcher or the agent finds. */
function standingOf(
  picture: Picture,
  server: ConferenceServer,
  conferenceId: string,
  epoch: bigint,
): "wanted" | "elsewhere" | "over" | "unknown" {
  const entry = picture.conferences.get(conferenceId);
  const dispatch = entry?.conference.dispatch;
  if (!entry || !dispatch || dispatch.epoch < epoch) return "unknown";
  if (isOver(entry)) return "over";
  const isHere =
    dispatch.epoch === epoch && dispatch.serverId === server.id && hasValidDispatch(picture, entry);
  return isHere ? "wanted" : "elsewhere";
}
