import { createRoomBook } from "../../client/agent/room-server/room-book.ts";
import { type SimulatedAgent, startAgent } from "./agent.ts";
import type { Chance } from "./chance.ts";
import { createRoomServerDriver } from "./room-server.ts";
import { createRooms, type Rooms } from "./rooms.ts";
import { createSimulatedProcess, type SimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** A conference server: rooms in memory, and the real agent beside them. */
export interface ConferenceServer {
  readonly id: string;
  readonly address: string;
  readonly capacity: number;
  /** Whether the rooms are in a process of their own, and go on without the agent. */
  readonly keepsRooms: boolean;
  /** The machine, as far as it lives: the process that has the rooms, and with it the agent. */
  readonly process: SimulatedProcess;
  /** The agent that runs, or ran last: the process above, or one of its own. */
  readonly agent: SimulatedProcess;
  /** Names the life of its rooms. */
  readonly instanceId: string;
  /** The rooms there are, and the epoch each was last started under. */
  readonly rooms: ReadonlyMap<string, bigint>;
  /** The part of the starts that its driver refuses. */
  failingStarts: number;
  /** Starts a machine, and with it a life without rooms. */
  start(): void;
  /** Starts an agent beside the rooms that there are. */
  startAgent(): void;
  /** Has the agent say that it will be back within this time. */
  announceRestart(withinMs: number): Promise<void>;
}

/** How soon its supervisor starts an agent again that has ended by itself. */
const RESTART_MS = 100;

export function createConferenceServer(
  world: World,
  id: string,
  capacity: number,
  chance: Chance,
): ConferenceServer {
  const keepsRooms = chance.happens(0.4);
  let lives = 0;
  let agents = 0;
  const nextInstanceId = () => {
    lives += 1;
    return `${id}-life-${lives}`;
  };
  let machine: SimulatedProcess;
  let rooms: Rooms;
  let agent: SimulatedProcess;
  let running: Promise<SimulatedAgent> | undefined;
  let beginAgent = () => {};

  function begin(process: SimulatedProcess, connect: Parameters<typeof startAgent>[3]) {
    agent = process;
    running = startAgent(world, server, process, connect);
    running.catch((err: unknown) => world.fail(`the agent of ${id} failed: ${String(err)}`));
  }

  const server: ConferenceServer = {
    id,
    address: `${id}.example:1`,
    capacity,
    keepsRooms,
    get process() {
      return machine;
    },
    get agent() {
      return agent;
    },
    get instanceId() {
      return rooms.driver.instanceId;
    },
    get rooms() {
      return rooms.epochs;
    },
    failingStarts: 0,
    start() {
      machine = createSimulatedProcess(id, world.time);
      const { clock, signal } = machine;
      rooms = createRooms(world, server, machine, chance, nextInstanceId);
      const { driver } = rooms;
      if (!keepsRooms) {
        begin(machine, () => driver);
        return;
      }
      const book = createRoomBook({ driver: () => driver, logger: world.trace.logger(id), clock });
      world.background(id, book.run(signal));
      beginAgent = () => {
        agents += 1;
        const process = createSimulatedProcess(id, world.time, machine);
        const onOver = () => {
          process.kill();
          world.time.at(world.time.nowMs + RESTART_MS, () => {
            if (agent === process && machine.state !== "killed") beginAgent();
          });
        };
        begin(process, (leftMs) =>
          createRoomServerDriver(
            book,
            `${id}-agent-${agents}`,
            process,
            () => ({ policy: "stop", leftMs: leftMs() }),
            onOver,
          ),
        );
      };
      beginAgent();
    },
    startAgent: () => beginAgent(),
    async announceRestart(withinMs) {
      await (await running)?.announceRestart(withinMs);
    },
  };
  return server;
}
