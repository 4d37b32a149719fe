import { setImmediate as nextTurn } from "node:timers/promises";
import type { Figures } from "./figures.ts";
import { useLightAborts } from "./light-abort.ts";
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

/**
 * Runs the world of a seed to its end, or to the first thing that is broken. One at a time: for as long as it runs,
 * `Math.random` is the seed's, and aborts are light.
 */
export async function simulate(seed: number, traced = false): Promise<RunResult> {
  const restore = takeOver();
  // Nobody reads the stacks of a run that is not told, and collecting them is most of what an error costs.
  if (!traced) Error.stackTraceLimit = 0;
  const world = createWorld(seed, traced);
  Math.random = world.chance.fork("Math.random").next;
  const onRejection = (err: unknown) => world.fail(`a rejection was not handled: ${describe(err)}`);
  process.on("unhandledRejection", onRejection);
  let failedAtMs = 0;
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
    if (err !== STOP) world.fail(describe(err));
  } finally {
    failedAtMs = world.time.nowMs;
    // Rejections that nobody handles are told within this turn.
    await nextTurn();
    process.off("unhandledRejection", onRejection);
    await world.end();
    restore();
  }
  return { seed, failure: world.failure, failedAtMs, figures: world.figures, trace: world.trace.lines };
}

/** Remembers what the run replaces. */
function takeOver(): () => void {
  const { random } = Math;
  const { stackTraceLimit } = Error;
  const useRealAborts = useLightAborts();
  return () => {
    useRealAborts();
    Math.random = random;
    Error.stackTraceLimit = stackTraceLimit;
  };
}

function describe(err: unknown): string {
  return err instanceof Error ? (err.stack ?? err.message) : String(err);
}
