import { ConnectError } from "@connectrpc/connect";
import { formatAddress, isAnyHost, parseAddress } from "../../common/address.ts";
import { createValidator, isId } from "../../common/rpc/validator.ts";
import { DEFAULT_ENDPOINT } from "../transport/client.ts";
import { type Endpoints, parseEndpoints } from "../transport/endpoints.ts";
import { ISOLATION_POLICIES, type IsolationPolicy } from "./isolation.ts";
import { isLoopbackHost } from "./room-server/loopback-host.ts";

/** The kinds of conference servers an agent can drive. */
export const DRIVERS = ["loopback"] as const;
export type DriverName = (typeof DRIVERS)[number];

/** What a person says about an agent. */
export interface AgentOptions {
  /** The server's ID: 1 to 63 of `a-z 0-9 - . _`, beginning and ending with a letter or digit. */
  readonly id: string;
  /** How many units of weight it can host, 1 to 1,000,000,000. */
  readonly capacity: number;
  /** host:port for AgentService. Default 127.0.0.1 and a free port. */
  readonly listen?: string;
  /**
   * host:port under which others reach `listen`; port 0 stands for the one listened on. Default: `listen`. Required when
   * that is all interfaces.
   */
  readonly advertise?: string;
  /** Default `loopback`. */
  readonly driver?: DriverName;
  /** Where the server is. Default: nowhere in particular. */
  readonly region?: string;
  /** Labels that conferences may require, prefer or avoid. */
  readonly labels?: Readonly<Record<string, string>>;
  /** host:port of the control plane, of several replicas with commas between or as a list. Default 127.0.0.1:7400. */
  readonly endpoint?: Endpoints;
  /** host:port for the rooms of the loopback driver. Default: the host of `listen` and a free port. */
  readonly roomsListen?: string;
  /**
   * host:port under which participants reach the rooms; port 0 stands for the one listened on. Default: `roomsListen`.
   * When that is all interfaces: the host of `advertise`.
   */
  readonly roomsAdvertise?: string;
  /**
   * host:port, on this machine, of the control of a room server (`convoke room-server`) that hosts the rooms instead of
   * this process, and goes on when the agent is restarted. Only for the loopback driver, without `roomsListen` and
   * `roomsAdvertise`. Default: none.
   */
  readonly roomServer?: string;
  /** What to do when cut off, or declared DOWN: end all conferences, or go on. Default `stop`. */
  readonly isolation?: IsolationPolicy;
  /**
   * With a room server: how long the agent says it may be away when it is stopped other than by a drain, 0 to 300,000 ms.
   * Default 30,000.
   */
  readonly restartWithinMs?: number;
  /** How long a drain lets conferences end by themselves, 0 to 86,400,000 ms. Default 0: all are moved at once. */
  readonly drainDeadlineMs?: number;
  /**
   * How long a drain may take before the agent stops all the same, `drainDeadlineMs` to 172,800,000 ms. Default:
   * `drainDeadlineMs` and five minutes.
   */
  readonly drainTimeoutMs?: number;
  /** Whether the agent ends by itself when an operator's drain of its server is done. Default: no. */
  readonly exitWhenDrained?: boolean;
  /** How long a room goes on after a drain has moved its conference, 0 to 60,000 ms. Default 2,000. */
  readonly moveLingerMs?: number;
}

/** The options with every default filled in and every value checked. */
export interface CompiledAgentOptions {
  readonly id: string;
  readonly capacity: number;
  readonly listen: string;
  readonly advertise: string;
  readonly driver: DriverName;
  readonly region: string;
  readonly labels: Readonly<Record<string, string>>;
  /** host:port of each replica. */
  readonly endpoint: readonly string[];
  readonly roomsListen: string;
  readonly roomsAdvertise: string;
  readonly roomServer: string | undefined;
  readonly isolation: IsolationPolicy;
  readonly restartWithinMs: number;
  readonly drainDeadlineMs: number;
  readonly drainTimeoutMs: number;
  readonly exitWhenDrained: boolean;
  readonly moveLingerMs: number;
}

/** A supervisor starts a process again within seconds; the rest is for machines that are busy. */
const RESTART_WITHIN_MS = 30_000;

/** Moving takes seconds while there is room elsewhere; what waits for room may get it within this. */
const DRAIN_TIMEOUT_MS = 5 * 60_000;

/** Longer than an application takes to hear of the move and bring its participants over. */
const MOVE_LINGER_MS = 2_000;

const DAY_MS = 24 * 3_600_000;

const KNOWN: Readonly<Record<keyof CompiledAgentOptions, true>> = {
  id: true,
  capacity: true,
  listen: true,
  advertise: true,
  driver: true,
  region: true,
  labels: true,
  endpoint: true,
  roomsListen: true,
  roomsAdvertise: true,
  roomServer: true,
  isolation: true,
  restartWithinMs: true,
  drainDeadlineMs: true,
  drainTimeoutMs: true,
  exitWhenDrained: true,
  moveLingerMs: true,
};

const MAX_CAPACITY = 1_000_000_000;

/** @throws {TypeError} that names the option and says what to give */
export function compileAgentOptions(options: AgentOptions): CompiledAgentOptions {
  for (const key of Object.keys(options))
    if (!Object.hasOwn(KNOWN, key)) throw new TypeError(`unknown agent option: ${key}`);
  const { id, capacity, driver = "loopback", region = "", labels = {}, isolation = "stop" } = options;
  if (!isId(id))
    throw new TypeError("id: write 1 to 63 of a-z 0-9 - . _, beginning and ending with a letter or digit");
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_CAPACITY)
    throw new TypeError(`capacity: write a whole number from 1 to ${MAX_CAPACITY}`);
  if (!DRIVERS.includes(driver)) throw new TypeError(`driver: write one of ${DRIVERS.join(", ")}`);
  checkLabels(labels);
  if (!ISOLATION_POLICIES.includes(isolation))
    throw new TypeError(`isolation: write one of ${ISOLATION_POLICIES.join(", ")}`);
  const durations = compileDurations(options);
  const roomServer = compileRoomServer(options);

  const listen = options.listen ?? "127.0.0.1:0";
  const { host } = parseAddress(listen);
  if (isAnyHost(host) && !options.advertise) {
    throw new TypeError(
      `advertise: ${listen} is all interfaces; give the host:port under which dispatchers reach this agent`,
    );
  }
  const advertise = options.advertise ?? formatAddress(host, 0);
  const roomsListen = options.roomsListen ?? formatAddress(host, 0);
  const roomsHost = parseAddress(roomsListen).host;
  const roomsAdvertise =
    options.roomsAdvertise ??
    formatAddress(isAnyHost(roomsHost) ? parseAddress(advertise).host : roomsHost, 0);
  for (const [name, address] of Object.entries({ advertise, roomsAdvertise })) {
    if (isAnyHost(parseAddress(address).host))
      throw new TypeError(`${name}: nobody can reach ${address}; give a host that others can`);
  }
  const endpoint = Object.freeze(parseEndpoints(options.endpoint ?? DEFAULT_ENDPOINT));
  return Object.freeze({
    id,
    capacity,
    listen,
    advertise,
    driver,
    region,
    labels: Object.freeze({ ...labels }),
    endpoint,
    roomsListen,
    roomsAdvertise,
    roomServer,
    isolation,
    ...durations,
    exitWhenDrained: options.exitWhenDrained ?? false,
  });
}

function compileDurations(options: AgentOptions) {
  const { restartWithinMs = RESTART_WITHIN_MS, drainDeadlineMs = 0, moveLingerMs = MOVE_LINGER_MS } = options;
  const { drainTimeoutMs = drainDeadlineMs + DRAIN_TIMEOUT_MS } = options;
  const ranges: [name: string, ms: number, minMs: number, maxMs: number][] = [
    ["restartWithinMs", restartWithinMs, 0, 300_000],
    ["drainDeadlineMs", drainDeadlineMs, 0, DAY_MS],
    ["drainTimeoutMs", drainTimeoutMs, drainDeadlineMs, 2 * DAY_MS],
    ["moveLingerMs", moveLingerMs, 0, 60_000],
  ];
  for (const [name, ms, minMs, maxMs] of ranges)
    if (!(ms >= minMs && ms <= maxMs))
      throw new TypeError(`${name}: write ${minMs} to ${maxMs} milliseconds`);
  return { restartWithinMs, drainDeadlineMs, drainTimeoutMs, moveLingerMs };
}

function compileRoomServer({ roomServer, roomsListen, roomsAdvertise }: AgentOptions): string | undefined {
  if (roomServer === undefined) return undefined;
  if (roomsListen ?? roomsAdvertise)
    throw new TypeError(
      "roomServer: where rooms are served is then told to the room server, not to the agent",
    );
  const { host, port } = parseAddress(roomServer);
  if (!isLoopbackHost(host) || port === 0)
    throw new TypeError(`roomServer: ${roomServer} is no address on this machine, such as 127.0.0.1:7600`);
  return formatAddress(host, port);
}

function checkLabels(labels: Readonly<Record<string, string>>) {
  const check = createValidator();
  check.labels("labels", labels);
  try {
    check.done();
  } catch (err) {
    throw new TypeError(ConnectError.from(err).rawMessage, { cause: err });
  }
}
