import { createBackoff } from "../../common/backoff.ts";
import type { Clock } from "../../common/clock.ts";
import type { GrpcTransport } from "./grpc-transport.ts";

/**
 * One replica as its callers have found it.
 *
 * | from      | to        | cause                                                                            |
 * | --------- | --------- | -------------------------------------------------------------------------------- |
 * | in use    | suspended | no connection, a call broken off, no sign of life, shutting down, store lost      |
 * | suspended | probing   | its time is over and somebody calls, whom another replica serves meanwhile        |
 * | probing   | in use    | it says that it serves                                                           |
 * | probing   | suspended | it does not, for longer than before                                              |
 * | suspended | in use    | it answered a call that was sent to it because no other was in use               |
 */
export interface Endpoint {
  readonly address: string;
  readonly transport: GrpcTransport;
  readonly suspended: boolean;
  /** When it will be probed, on the monotonic clock; in the past when it is not suspended. */
  readonly probeAtMs: number;
  /** Leaves it alone for a while, longer each time. */
  suspend(): void;
  /** It answered: it is in use. */
  answered(): void;
  /** Asks a suspended one whose time is over whether it serves again. Does not wait. */
  probeWhenDue(): void;
}

export interface EndpointOptions {
  readonly address: string;
  readonly transport: GrpcTransport;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
}

/** A restart takes about a second; one that stays away costs a probe in ten. */
const FIRST_SUSPENSION_MS = 500;
const LONGEST_SUSPENSION_MS = 10_000;

/** One that has served for so long is forgiven what was before. */
const FORGET_AFTER_MS = 60_000;

const PROBE_TIMEOUT_MS = 2_000;

export function createEndpoint({ address, transport, clock, random }: EndpointOptions): Endpoint {
  const backoff = createBackoff({ initialMs: FIRST_SUSPENSION_MS, maxMs: LONGEST_SUSPENSION_MS, random });
  let suspended = false;
  let probing = false;
  let suspendedAtMs = Number.NEGATIVE_INFINITY;
  let probeAtMs = Number.NEGATIVE_INFINITY;

  function suspend() {
    const nowMs = clock.monotonicMs();
    // Calls that were under way together fail together; that is one failure.
    if (suspended && nowMs < probeAtMs) return;
    if (!suspended && nowMs - suspendedAtMs > FORGET_AFTER_MS) backoff.reset();
    suspended = true;
    suspendedAtMs = nowMs;
    probeAtMs = nowMs + backoff.nextMs();
  }

  function answered() {
    suspended = false;
  }

  async function probe() {
    probing = true;
    const health = (await transport.connected(PROBE_TIMEOUT_MS))
      ? await transport.health(PROBE_TIMEOUT_MS)
      : "silent";
    probing = false;
    if (health === "serving") answered();
    else suspend();
  }

  return {
    address,
    transport,
    get suspended() {
      return suspended;
    },
    get probeAtMs() {
      return probeAtMs;
    },
    suspend,
    answered,
    probeWhenDue() {
      if (suspended && !probing && clock.monotonicMs() >= probeAtMs) void probe();
    },
  };
}
