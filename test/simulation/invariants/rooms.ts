import { isolationMs } from "../../../common/detection.ts";
import type { ConferenceServer } from "../conference-server.ts";
import { hasValidDispatch, isOver, type Picture } from "../picture.ts";
import type { World } from "../world.ts";

/** How long reconcile may take once the agent can follow the dispatch table again: its longest back-off, and its turns. */
const RECONCILE_MS = 10_000;

/** What ending all rooms may take once the time has come. */
const END_MS = 1_500;

/** When a room that nobody wants was first seen, by an agent that runs. */
interface Stale {
  readonly sinceMs: number;
  readonly epoch: bigint;
}

/** Checks I2 where the rooms are: no epoch goes back, and none is hosted for long that the table has moved on from. */
export interface RoomChecks {
  starts(server: ConferenceServer, conferenceId: string, epoch: bigint): Generator<string>;
  /** To be called again and again. */
  look(picture: Picture): Generator<string>;
}

export function createRoomChecks(world: World): RoomChecks {
  /** The highest epoch that each life of a server was asked to host, by conference. */
  const highest = new Map<string, bigint>();
  const stale = new Map<string, Stale>();
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
    *starts({ id, instanceId }, conferenceId, epoch) {
      const key = `${instanceId} ${conferenceId}`;
      const known = highest.get(key) ?? 0n;
      if (epoch < known) yield `I2: ${id} starts ${conferenceId} under epoch ${epoch} after ${known}`;
      else highest.set(key, epoch);
    },
    *look(picture) {
      const { nowMs } = world.time;
      for (const server of world.servers) {
        const { process, rooms, instanceId, id } = server;
        if (!rooms) continue;
        if (!isAlone(server)) alone.delete(id);
        else if (!alone.has(id)) alone.set(id, nowMs);
        const aloneMs = nowMs - (alone.get(id) ?? nowMs);
        if (aloneMs > isolation + END_MS && rooms.size > 0)
          yield `I2: ${id} hears nobody for ${Math.round(aloneMs)} ms and still hosts ${[...rooms.keys()].join(", ")}`;
        const isAway = process.state !== "running" || world.controlPlaneTroubles > 0;
        for (const [conferenceId, epoch] of rooms) {
          const key = `${instanceId} ${conferenceId}`;
          if (isAway || !isMovedOn(picture, server, conferenceId, epoch)) {
            stale.delete(key);
            continue;
          }
          const known = stale.get(key);
          if (known?.epoch !== epoch) stale.set(key, { sinceMs: nowMs, epoch });
          else if (nowMs - known.sinceMs > isolation + RECONCILE_MS)
            yield `I2: ${id} hosts ${conferenceId} under epoch ${epoch}, which is over for ${Math.round(nowMs - known.sinceMs)} ms`;
        }
      }
    },
  };
}

/** Whether the table has the conference elsewhere, or over. What never got into it, its dispatcher or the agent finds. */
function isMovedOn(picture: Picture, server: ConferenceServer, conferenceId: string, epoch: bigint): boolean {
  const entry = picture.conferences.get(conferenceId);
  const dispatch = entry?.conference.dispatch;
  if (!entry || !dispatch || dispatch.epoch < epoch) return false;
  return (
    dispatch.epoch > epoch ||
    dispatch.serverId !== server.id ||
    isOver(entry) ||
    !hasValidDispatch(picture, entry)
  );
}
