import type { Client, Interceptor } from "@connectrpc/connect";
import { parseAddress } from "../../common/address.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createGrpcTransport } from "./grpc-transport.ts";
import { createLeavableClient } from "./leavable-client.ts";

/** Typed clients of the control plane over one channel. */
export interface ConvokeClient extends Disposable {
  readonly dispatchers: Client<typeof DispatcherService>;
  readonly conferences: Client<typeof ConferenceService>;
  readonly servers: Client<typeof ServerService>;
  /** Closes the channel. */
  close(): void;
}

export interface ConvokeClientOptions {
  /** host:port of the control plane's gRPC port. Default 127.0.0.1:7400. */
  readonly endpoint?: string;
  /** The deadline of calls that bring none, in milliseconds. Default 10,000. Streams have none unless given. */
  readonly timeoutMs?: number;
  readonly interceptors?: readonly Interceptor[];
}

/** Where `convoke serve` listens unless told otherwise. */
export const DEFAULT_ENDPOINT = "127.0.0.1:7400";

/**
 * Makes a client. It connects with the first call and reconnects by itself; calls fail with `ConnectError`.
 * @throws {TypeError} when the endpoint is not host:port
 */
export function createConvokeClient(options: ConvokeClientOptions = {}): ConvokeClient {
  const transport = createTransport(options.endpoint ?? DEFAULT_ENDPOINT, options);
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
  /** Closes the channel. */
  close(): void;
}

/** @throws {TypeError} when the address is not host:port */
export function createAgentClient(
  address: string,
  options: Omit<ConvokeClientOptions, "endpoint"> = {},
): AgentClient {
  const transport = createTransport(address, options);
  return Object.assign(createLeavableClient(AgentService, transport), {
    close: () => transport.close(),
    [Symbol.dispose]: () => transport.close(),
  });
}

function createTransport(address: string, { timeoutMs, interceptors }: ConvokeClientOptions) {
  parseAddress(address);
  return createGrpcTransport({
    address,
    ...(timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs }),
    ...(interceptors === undefined ? {} : { interceptors }),
  });
}
