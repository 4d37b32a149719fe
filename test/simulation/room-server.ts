import type { Driver } from "../../client/agent/drivers/driver.ts";
import { type Fence, toAdoptedRoom } from "../../client/agent/room-server/control-protocol.ts";
import { LifeOverError, type RoomBook } from "../../client/agent/room-server/room-book.ts";
import { sleep } from "../../common/clock.ts";
import type { SimulatedProcess } from "./simulated-process.ts";

/** How often an agent tells the room server that it is there, and on what terms. */
const HEARTBEAT_INTERVAL_MS = 500;

/**
 * Drives a room server in another process on the same machine, by its real book and without a network between: both stand
 * still and die together, but for the agent that dies alone.
 *
 * @param onOver called when the room server is in another life than the one this driver began with
 */
export function createRoomServerDriver(
  book: RoomBook,
  agentId: string,
  agent: SimulatedProcess,
  fence: () => Fence,
  onOver: () => void,
): Driver {
  const { rooms, leftMs, instanceId: first } = book.takeOver({ agentId });
  const extensions = new Map<string, number>();
  const closing = new AbortController();
  let instanceId = first;
  const common = () => ({ agentId, instanceId, fence: fence() });

  /** Whatever comes of it comes into the agent's process, if that still lives. */
  async function call<T>(run: () => Promise<T>): Promise<T> {
    const life = instanceId;
    try {
      const result = await run();
      await new Promise<void>((resolve) => agent.enter(resolve));
      return result;
    } catch (err) {
      await new Promise<void>((resolve) => agent.enter(resolve));
      if (err instanceof LifeOverError && life === instanceId) onOver();
      throw err;
    }
  }

  async function keepBeating() {
    while (!agent.signal.aborted && !closing.signal.aborted) {
      await sleep(agent.clock, HEARTBEAT_INTERVAL_MS, agent.signal).catch(() => {});
      if (closing.signal.aborted) return;
      const told = Object.fromEntries(extensions);
      extensions.clear();
      await call(() => book.heartbeat({ ...common(), extensions: told }, agent.signal)).catch(() => {});
    }
  }
  void keepBeating();

  return {
    name: "simulated",
    get instanceId() {
      return instanceId;
    },
    ended: agent.signal,
    participantCount: 0,
    async start({ dispatchEpoch, ...request }, signal) {
      const room = { ...request, dispatchEpoch: String(dispatchEpoch) };
      return await call(() => book.start({ ...common(), room }, signal));
    },
    async stop(conferenceId, signal) {
      extensions.delete(conferenceId);
      await call(() => book.stop({ ...common(), conferenceId }, signal));
    },
    async renew(signal) {
      const renewed = await call(() => book.renew(common(), signal));
      instanceId = renewed.instanceId;
      extensions.clear();
    },
    hosted: async () => ({
      rooms: rooms.map(toAdoptedRoom),
      ...(leftMs === undefined ? {} : { leftMs }),
    }),
    extend: (conferenceId, validUntilMs) => void extensions.set(conferenceId, validUntilMs),
    async leave(awayMs) {
      closing.abort();
      book.leave({ ...common(), fence: { policy: fence().policy, leftMs: awayMs } });
    },
    participants: () => 0,
    healthy: async () => ({ healthy: true }),
    close: async () => closing.abort(),
  };
}
