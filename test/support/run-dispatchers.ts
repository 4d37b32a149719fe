import pino from "pino";
import { afterEach, expect } from "vitest";
import { type DispatcherOptions, runDispatcher } from "../../client/dispatcher/dispatcher.ts";
import { createStats } from "../../client/dispatcher/stats.ts";
import { type Clock, systemClock } from "../../common/clock.ts";
import type { DispatcherWorld } from "./dispatcher-world.ts";

/** Against hanging only. */
export const SOON = { timeout: 30_000, interval: 5 };

/** Runs dispatchers in a world, and ends them after each test. To be called where tests are described. */
export function runDispatchers() {
  const running: { stop: () => Promise<void> }[] = [];
  afterEach(async () => {
    for (const { stop } of running.splice(0)) await stop();
  });
  return function start(
    world: DispatcherWorld,
    options: Partial<DispatcherOptions> = {},
    clock: Clock = systemClock,
  ) {
    const controller = new AbortController();
    const stats = createStats();
    const over = runDispatcher({ id: "d1", tickMs: 100, ttlMs: 60_000, ...options }, controller.signal, {
      logger: pino({ level: "silent" }),
      client: world.clients,
      connectAgent: world.connectAgent,
      checkPort: async () => "silent",
      clock,
      stats,
    });
    over.catch(() => {});
    const stop = () => {
      controller.abort();
      return over;
    };
    running.push({ stop: () => stop().catch(() => {}) });
    return { stats, stop, over };
  };
}

/** Waits until no conference of the world is due or claimed any more. */
export async function allSettled(world: DispatcherWorld): Promise<void> {
  const open = () =>
    [...world.conferences.values()].filter(({ state }) => state === "due" || state === "claimed").length;
  await expect.poll(open, SOON).toBe(0);
}
