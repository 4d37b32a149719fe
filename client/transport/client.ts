import type { Client, Interceptor } from "@connectrpc/connect";
import { parseAddress } from "../../common/address.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { type Endpoints, parseEndpoints } from "./endpoints.ts";
import { createFailoverTransport } from "./failover-transport.ts";
import { createGrpcTransport, type Keepalive } from "./grpc-transport.ts";
import { createLeavableClient } from "./leavable-client.ts";
import { createSeenRevision } from "./seen-revision.ts";

/** Typed clients of the control plane. */
export interface ConvokeClient extends Disposable {
  readonly dispatchers: Client<typeof DispatcherService>;
  readonly conferences: Client<typeof ConferenceService>;
  readonly servers: Client<typeof ServerService>;
  /** Closes the connections. */
  close(): void;
}

export interface ConvokeClientOptions {
  /**
   * host:port of the control plane's gRPC port; of several replicas with commas between, or as a list. A client of
   * several turns to another by itself when one dies, stalls or shuts down. Default 127.0.0.1:7400.
   */
  readonly endpoint?: Endpoints;
  /** The deadline of calls that bring none, in milliseconds. Default 10,000. Streams have none unless given. */
  readonly timeoutMs?: number;
  readonly interceptors?: readonly Interceptor[];
  /** A number in [0, 1), for the order in which several endpoints are tried. Default: Math.random. */
  readonly random?: () => number;
}

/** Where `convoke serve` listens unless told otherwise. */
export const DEFAULT_ENDPOINT = "127.0.0.1:7400";

/**
 * Makes a client. It connects with the first call and reconnects by itself; calls fail with `ConnectError`.
 *
 * With several endpoints a call that fails because of the replica is sent to the others, each once and within its
 * deadline: reads and other calls that may be repeated (`isRepeatable`), and every call that was certainly not carried
 * out. Watches are resumed by `watchDispatches` and its like. No answer is older than what the client has seen.
 * @throws {TypeError} when an endpoint is not host:port
 */
export function createConvokeClient(options: ConvokeClientOptions = {}): ConvokeClient {
  const transport = createControlPlaneTransport(options);
  return {
    dispatchers: createLeavableClient(DispatcherService, transport),
    conferences: createLeavableClient(ConferenceService, transport),
    servers: createLeavableClient(ServerService, transport),
    close: () => transport.close(),
    [Symbol.dispose]: () => transport.close(),
  };
}

/** A typed client of one agent. */
export interface AgentClient extends Client<typeof AgentService>, Disposable {
  /** Calls back once, as soon as no connection stands; not there where there are no connections. */
  onceDisconnected?(listener: () => void): void;
  /** Closes the channel. */
  close(): void;
}

/** @throws {TypeError} when the address is not host:port */
export function createAgentClient(
  address: string,
  options: Omit<ConvokeClientOptions, "endpoint" | "random"> = {},
): AgentClient {
  const transport = createTransport(address, options);
  return Object.assign(createLeavableClient(AgentService, transport), {
    onceDisconnected: (listener: () => void) => transport.onceDisconnected(listener),
    close: () => transport.close(),
    [Symbol.dispose]: () => transport.close(),
  });
}

/** Two seconds is long for a ping and short for people; a connection cut in vain costs a reconnect. */
const EAGER_KEEPALIVE: Keepalive = { everyMs: 3_000, timeoutMs: 2_000 };

const DEFAULT_TIMEOUT_MS = 10_000;

function createControlPlaneTransport(options: ConvokeClientOptions) {
  const addresses = parseEndpoints(options.endpoint ?? DEFAULT_ENDPOINT);
  const interceptors = [...(options.interceptors ?? []), createSeenRevision()];
  const [address = DEFAULT_ENDPOINT, ...others] = addresses;
  if (others.length === 0) return createTransport(address, { ...options, interceptors });
  return createFailoverTransport({
    addresses,
    connect: (to) => createGrpcTransport({ address: to, keepalive: EAGER_KEEPALIVE }),
    defaultTimeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    interceptors,
    ...(options.random ? { random: options.random } : {}),
  });
}

function createTransport(
  address: string,
  { timeoutMs, interceptors }: Omit<ConvokeClientOptions, "endpoint" | "random">,
) {
  parseAddress(address);
  return createGrpcTransport({
    address,
    ...(timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs }),
    ...(interceptors === undefined ? {} : { interceptors }),
  });
}
