import { isAnyHost, parseAddress } from "../../../common/address.ts";
import { type Clock, systemClock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { createLoopbackDriver, type LoopbackDriver } from "../drivers/loopback.ts";
import { listenControl } from "./control-server.ts";
import { isLoopbackHost } from "./loopback-host.ts";
import { createRoomBook } from "./room-book.ts";

/** What a person says about a room server. */
export interface RoomServerOptions {
  /** host:port to serve rooms on. Default 127.0.0.1:7610. */
  readonly listen?: string;
  /** host:port that participants reach it under, where that is another; port 0 stands for the one listened on. */
  readonly advertise?: string;
  /** host:port on this machine where its agent calls it. Default 127.0.0.1:7600. */
  readonly control?: string;
}

export interface RoomServerDependencies {
  readonly logger: Logger;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Called once it can be called, with the addresses as bound. */
  readonly onListening?: (addresses: { readonly control: string; readonly rooms: string }) => void;
}

const DEFAULT_ROOMS_LISTEN = "127.0.0.1:7610";
const DEFAULT_CONTROL_LISTEN = "127.0.0.1:7600";

/**
 * @returns the options with every default filled in
 * @throws {TypeError} that names the option and says what to give
 */
export function compileRoomServerOptions(options: RoomServerOptions) {
  const { listen = DEFAULT_ROOMS_LISTEN, control = DEFAULT_CONTROL_LISTEN, advertise } = options;
  const { host } = parseAddress(listen);
  if (!isLoopbackHost(parseAddress(control).host))
    throw new TypeError(
      `control: ${control} is no address on this machine, such as ${DEFAULT_CONTROL_LISTEN}`,
    );
  if (isAnyHost(host) && !advertise)
    throw new TypeError(
      `advertise: ${listen} is all interfaces; give the host:port under which participants reach it`,
    );
  if (advertise && isAnyHost(parseAddress(advertise).host))
    throw new TypeError(`advertise: nobody can reach ${advertise}; give a host that others can`);
  return Object.freeze({ listen, control, advertise });
}

/**
 * Runs a conference server of loopback rooms, for an agent to drive, until the signal aborts; then participants are
 * disconnected with code 1001.
 * @throws {TypeError} when an option is wrong, before anything is started
 * @throws {Error} when an address cannot be bound
 */
export async function runRoomServer(
  roomServerOptions: RoomServerOptions,
  dependencies: RoomServerDependencies,
  signal: AbortSignal,
): Promise<void> {
  const { listen, control, advertise } = compileRoomServerOptions(roomServerOptions);
  const { logger, clock = systemClock, onListening } = dependencies;
  await using stack = new AsyncDisposableStack();
  // The driver asks the book before it serves anything, and the book ends the driver's rooms.
  const parts: { driver?: LoopbackDriver } = {};
  const driverOf = () => {
    if (!parts.driver) throw new Error("the room server has not begun");
    return parts.driver;
  };
  const book = createRoomBook({ driver: driverOf, logger, clock });
  const driver = await createLoopbackDriver({
    listen,
    ...(advertise ? { advertise } : {}),
    mayServe: () => book.mayServe(),
    logger,
    clock,
  });
  parts.driver = driver;
  stack.defer(() => driver.close());
  const controlServer = stack.use(await listenControl({ listen: control, book, logger }));
  const addresses = { control: controlServer.address, rooms: driver.address };
  logger.info({ ...addresses, instanceId: driver.instanceId }, "room server serving");
  onListening?.(addresses);
  await book.run(signal);
  logger.info({ rooms: book.roomCount }, "room server stopping");
}
