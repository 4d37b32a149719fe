import { type Backoff, createBackoff } from "../../../common/backoff.ts";
import type { Clock } from "../../../common/clock.ts";
import type { Endpoint } from "./endpoint.ts";

/** Which endpoint is used: always the same one until it fails, then the next that is not backing off. */
export interface Rotation {
  /** The endpoint to use now, or how long none will be tried. */
  pick(): Endpoint | { readonly waitMs: number };
  /**
   * Moves on from an endpoint; the first of many calls that fail on it counts, the others change nothing.
   * @param reconnect whether it gets new channels when its turn comes again
   * @returns whether this call moved on
   */
  leave(endpoint: Endpoint, reconnect: boolean): boolean;
  /** Tells that the endpoint has answered. */
  answered(endpoint: Endpoint): void;
  close(): void;
}

/** A member that restarts is back in a moment. */
const INITIAL_BACKOFF_MS = 100;

/** So long a member that is back may wait for us; so often a dead one is tried. */
const MAX_BACKOFF_MS = 1_000;

interface Member {
  readonly address: string;
  readonly backoff: Backoff;
  endpoint: Endpoint | undefined;
  retryAtMs: number;
}

/** Starts at a random address, so that many replicas spread over the members. */
export function createRotation(
  addresses: readonly string[],
  open: (address: string) => Endpoint,
  clock: Clock,
  random: () => number = Math.random,
): Rotation {
  const members = addresses.map((address): Member => {
    const backoff = createBackoff({ initialMs: INITIAL_BACKOFF_MS, maxMs: MAX_BACKOFF_MS, random });
    return { address, backoff, endpoint: undefined, retryAtMs: Number.NEGATIVE_INFINITY };
  });
  let at = Math.floor(random() * members.length);

  const inTurn = () => [...members.slice(at), ...members.slice(0, at)];

  return {
    pick() {
      const nowMs = clock.monotonicMs();
      const member = inTurn().find(({ retryAtMs }) => retryAtMs <= nowMs);
      if (!member) return { waitMs: Math.min(...members.map(({ retryAtMs }) => retryAtMs)) - nowMs };
      at = members.indexOf(member);
      member.endpoint ??= open(member.address);
      return member.endpoint;
    },
    leave(endpoint, reconnect) {
      const member = members.find((candidate) => candidate.endpoint === endpoint);
      if (!member) return false;
      const nowMs = clock.monotonicMs();
      const isFirst = member.retryAtMs <= nowMs;
      if (isFirst) member.retryAtMs = nowMs + member.backoff.nextMs();
      if (reconnect) {
        member.endpoint = undefined;
        endpoint.close();
      }
      if (members[at] === member) at = (at + 1) % members.length;
      return isFirst;
    },
    answered(endpoint) {
      const member = members.find((candidate) => candidate.endpoint === endpoint);
      member?.backoff.reset();
    },
    close() {
      for (const member of members) {
        member.endpoint?.close();
        member.endpoint = undefined;
      }
    },
  };
}
