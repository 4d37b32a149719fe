import type { Figures } from "./figures.ts";
import { createWorld } from "./world.ts";

/** What became of one seed. */
export interface RunResult {
  readonly seed: number;
  /** What was broken; undefined when everything held. */
  readonly failure: string | undefined;
  /** In virtual milliseconds. */
  readonly failedAtMs: number;
  readonly figures: Figures;
  readonly trace: readonly string[];
}

/** How often, in virtual milliseconds, everything is looked at that no write shows. */
const LOOK_INTERVAL_MS = 250;

const STOP = new Error("something is broken");

/** Runs the world of a seed to its end, or to the first thing that is broken. */
export async function simulate(seed: number, traced = false): Promise<RunResult> {
  const world = createWorld(seed, traced);
  const realRandom = Math.random;
  Math.random = world.chance.fork("Math.random").next;
  try {
    let lookMs = 0;
    await world.time.run(world.scenario.endMs, () => {
      if (world.time.nowMs >= lookMs) {
        lookMs = world.time.nowMs + LOOK_INTERVAL_MS;
        world.invariants.look();
      }
      if (world.failure !== undefined) throw STOP;
    });
    world.invariants.rest();
  } catch (err) {
    if (err !== STOP) world.fail(err instanceof Error ? (err.stack ?? err.message) : String(err));
  } finally {
    Math.random = realRandom;
  }
  return {
    seed,
    failure: world.failure,
    failedAtMs: world.time.nowMs,
    figures: world.figures,
    trace: world.trace.lines,
  };
}
