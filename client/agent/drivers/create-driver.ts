import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import type { CompiledAgentOptions } from "../agent-options.ts";
import type { Isolation } from "../isolation.ts";
import type { Driver } from "./driver.ts";
import { createLoopbackDriver } from "./loopback.ts";
import { createRoomServerDriver } from "./room-server-driver.ts";

export interface DriverDependencies {
  /** What says how long rooms may go on; undefined while the agent is only being put together. */
  readonly isolation: () => Isolation | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** The driver that the options name. Rejects when it cannot reach its conference server, or the signal aborts. */
export function createDriver(
  options: CompiledAgentOptions,
  { isolation, logger, clock }: DriverDependencies,
  signal: AbortSignal,
): Promise<Driver> {
  const { driver, roomServer, isolation: policy, roomsListen, roomsAdvertise } = options;
  switch (driver) {
    case "loopback": {
      if (roomServer !== undefined) {
        const fence = () => ({ policy, leftMs: isolation()?.leftMs ?? 0 });
        return createRoomServerDriver({ control: roomServer, fence, logger, clock }, signal);
      }
      const mayServe = () => isolation()?.mayServe() ?? true;
      return createLoopbackDriver({
        listen: roomsListen,
        advertise: roomsAdvertise,
        mayServe,
        logger,
        clock,
      });
    }
  }
}
