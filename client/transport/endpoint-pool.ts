import type { Clock } from "../../common/clock.ts";
import { createEndpoint, type Endpoint } from "./endpoint.ts";
import type { GrpcTransport } from "./grpc-transport.ts";

/** The replicas a client may turn to. */
export interface EndpointPool {
  /** All of them, in the order in which to try them now. At least one. */
  order(): readonly Endpoint[];
  close(): void;
}

export interface EndpointPoolOptions {
  readonly addresses: readonly string[];
  readonly connect: (address: string) => GrpcTransport;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
}

/**
 * Each client has an order of its own by chance, so that the clients of a replica that dies spread over all others, and
 * keeps to it, so that they spread over all again when it is back. Suspended ones come last, in the order in which they
 * may be in use again.
 */
export function createEndpointPool({ addresses, connect, clock, random }: EndpointPoolOptions): EndpointPool {
  const endpoints = shuffled(addresses, random).map((address) =>
    createEndpoint({ address, transport: connect(address), clock, random }),
  );
  return {
    order() {
      for (const endpoint of endpoints) endpoint.probeWhenDue();
      const suspended = endpoints.filter((endpoint) => endpoint.suspended);
      suspended.sort((a, b) => a.probeAtMs - b.probeAtMs);
      return [...endpoints.filter((endpoint) => !endpoint.suspended), ...suspended];
    },
    close() {
      for (const { transport } of endpoints) transport.close();
    },
  };
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(Math.floor(random() * left.length), 1));
}
