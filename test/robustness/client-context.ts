import { setTimeout as delay } from "node:timers/promises";
import type { ConvokeClient } from "../../client/transport/client.ts";
import type { Recorder } from "./recorder.ts";

/** What a client loop works with. */
export interface ClientContext {
  readonly name: string;
  /** Whether it knows one replica only, and so sends each call once. */
  readonly once: boolean;
  readonly api: ConvokeClient;
  readonly recorder: Recorder;
  /** In [0, 1), from the seed. */
  readonly random: () => number;
  /** Ends the loop. */
  readonly signal: AbortSignal;
}

/** Calls in a run are given up soon, since unknown outcomes are what it is after. */
export const CALL_TIMEOUT_MS = 3_000;

/** Waits up to twice the time, or until the loop ends. */
export async function pause({ random, signal }: ClientContext, meanMs: number): Promise<void> {
  await delay(2 * meanMs * random(), undefined, { signal }).catch(() => {});
}

/** The conferences that clients work on at the moment; few, so that they meet. */
export interface Pool {
  readonly live: readonly string[];
  add(conferenceId: string): void;
  remove(conferenceId: string): void;
}

export function createPool(): Pool {
  const live: string[] = [];
  return {
    live,
    add: (conferenceId) => void live.push(conferenceId),
    remove(conferenceId) {
      const index = live.indexOf(conferenceId);
      if (index >= 0) live.splice(index, 1);
    },
  };
}

export function pick<T>(items: readonly T[], random: () => number): T | undefined {
  return items[Math.floor(random() * items.length)];
}
