import { DispatcherReplacedError, runDispatcher } from "../../client/dispatcher/dispatcher.ts";
import type { AgentClient } from "../../client/transport/client.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createSimulatedProcess, type SimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** A dispatcher: the real program, behind simulated calls. */
export interface DispatcherNode {
  readonly id: string;
  /** The process that runs, or ran last. */
  readonly process: SimulatedProcess;
  start(): void;
}

/** How soon its supervisor starts it again when it has ended by itself. */
const RESTART_MS = 1_000;

export function createDispatcherNode(world: World, id: string): DispatcherNode {
  const { windowMs, tickMs, ttlMs } = world.scenario;

  function begin(): SimulatedProcess {
    const process = createSimulatedProcess(id, world.time);
    const client = world.controlPlaneClient(process);
    const dispatchers = world.rpc.client(DispatcherService, client);
    const connectAgent = (address: string): AgentClient =>
      Object.assign(world.rpc.client(AgentService, { process, address: () => address }), {
        close() {},
        [Symbol.dispose]() {},
      });
    const running = runDispatcher({ id, windowMs, tickMs, ttlMs }, process.signal, {
      logger: world.trace.logger(id),
      clock: process.clock,
      client: {
        dispatchers: {
          ...dispatchers,
          async queryTotal(request, options) {
            const answer = await dispatchers.queryTotal(request, options);
            world.invariants.shareTold(id, answer);
            return answer;
          },
        },
        servers: world.rpc.client(ServerService, client),
      },
      connectAgent,
      checkPort: (address, timeoutMs) => world.rpc.knock(process, address, timeoutMs),
    });
    running.then(
      () => world.fail(`dispatcher ${id} ended by itself`),
      (err: unknown) => {
        if (process.state === "killed") return;
        if (!(err instanceof DispatcherReplacedError)) {
          world.fail(`dispatcher ${id} failed: ${err instanceof Error ? err.stack : String(err)}`);
          return;
        }
        world.trace.event(id, () => `ended: ${String(err)}`);
        process.kill();
        world.time.at(world.time.nowMs + RESTART_MS, () => {
          if (node.process === process) node.start();
        });
      },
    );
    return process;
  }

  const node: DispatcherNode & { process: SimulatedProcess } = {
    id,
    process: undefined as unknown as SimulatedProcess,
    start() {
      node.process = begin();
    },
  };
  return node;
}
