import { ConnectError } from "@connectrpc/connect";
import { formatAddress, parseAddress } from "../../common/address.ts";
import { createValidator, isId } from "../../common/rpc/validator.ts";
import { DEFAULT_ENDPOINT } from "../transport/client.ts";
import { type Endpoints, parseEndpoints } from "../transport/endpoints.ts";

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
}

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
};

const MAX_CAPACITY = 1_000_000_000;

/** @throws {TypeError} that names the option and says what to give */
export function compileAgentOptions(options: AgentOptions): CompiledAgentOptions {
  for (const key of Object.keys(options))
    if (!Object.hasOwn(KNOWN, key)) throw new TypeError(`unknown agent option: ${key}`);
  const { id, capacity, driver = "loopback", region = "", labels = {} } = options;
  if (!isId(id))
    throw new TypeError("id: write 1 to 63 of a-z 0-9 - . _, beginning and ending with a letter or digit");
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_CAPACITY)
    throw new TypeError(`capacity: write a whole number from 1 to ${MAX_CAPACITY}`);
  if (!DRIVERS.includes(driver)) throw new TypeError(`driver: write one of ${DRIVERS.join(", ")}`);
  checkLabels(labels);

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
  });
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

function isAnyHost(host: string): boolean {
  return host === "0.0.0.0" || /^[0:]+$/.test(host);
}
