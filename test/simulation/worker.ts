/** A thread that runs slices of seeds, see `many.ts`. */
import { parentPort } from "node:worker_threads";
import { addFigures, createFigures } from "./figures.ts";
import type { Failure, Slice, SliceResult } from "./many.ts";
import { simulate } from "./simulate.ts";

parentPort?.on("message", async ({ from, count }: Slice) => {
  const figures = createFigures();
  const failures: Failure[] = [];
  for (let seed = from; seed < from + count; seed++) {
    const { failure, figures: more } = await simulate(seed);
    addFigures(figures, more);
    if (failure !== undefined) failures.push({ seed, failure });
  }
  const result: SliceResult = { seeds: count, failures, figures };
  parentPort?.postMessage(result);
});
