import type { Driver } from "../../client/agent/drivers/driver.ts";
import { sleep } from "../../common/clock.ts";
import type { Chance } from "./chance.ts";
import type { ConferenceServer } from "./conference-server.ts";
import type { SimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** The rooms of one process of a conference server, in memory. */
export interface Rooms {
  /** The epoch that each room was last started under. */
  readonly epochs: ReadonlyMap<string, bigint>;
  /** What an agent in the same process, or the room server, drives. */
  readonly driver: Driver;
}

/** What a start or a stop takes on a conference server. */
const DRIVER_MS = { least: 1, most: 30, slow: 1_000 } as const;
const SLOW_STARTS = 0.02;

/** @param nextInstanceId names the next life of the rooms */
export function createRooms(
  world: World,
  server: Pick<ConferenceServer, "id" | "failingStarts" | "instanceId">,
  { clock, signal: ended }: SimulatedProcess,
  chance: Chance,
  nextInstanceId: () => string,
): Rooms {
  const epochs = new Map<string, bigint>();
  let instanceId = nextInstanceId();
  const delayMs = () =>
    chance.happens(SLOW_STARTS)
      ? chance.between(DRIVER_MS.most, DRIVER_MS.slow)
      : chance.between(DRIVER_MS.least, DRIVER_MS.most);

  const driver: Driver = {
    name: "simulated",
    get instanceId() {
      return instanceId;
    },
    ended,
    participantCount: 0,
    async start({ conferenceId, dispatchEpoch }, signal) {
      const life = instanceId;
      world.invariants.roomStarts(server.id, life, conferenceId, dispatchEpoch);
      await sleep(clock, delayMs(), signal);
      if (chance.happens(server.failingStarts) || life !== instanceId)
        throw new Error("the conference server could not");
      epochs.set(conferenceId, dispatchEpoch);
      return { address: `wss://${server.id}.example/${conferenceId}` };
    },
    async stop(conferenceId, signal) {
      await sleep(clock, delayMs(), signal);
      epochs.delete(conferenceId);
    },
    async renew() {
      world.trace.event(server.id, () => `ends its life ${instanceId} with ${epochs.size} rooms`);
      instanceId = nextInstanceId();
      epochs.clear();
    },
    participants: () => 0,
    healthy: async () => ({ healthy: true }),
    close: async () => {},
  };
  return { epochs, driver };
}
