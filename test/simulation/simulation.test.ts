import { describe, expect, it } from "vitest";
import { simulateMany } from "./many.ts";
import { simulate } from "./simulate.ts";

/** Two minutes on two idle cores; the deadline is for busy ones. */
const SEEDS = 10_000;
const DEADLINE_MS = 30 * 60_000;

describe("the simulation", () => {
  it("gives the same run for the same seed, told or untold", async () => {
    const first = await simulate(7, true);
    const second = await simulate(7, true);
    const untold = await simulate(7);
    expect(first.trace.length).toBeGreaterThan(100);
    expect(second.trace).toEqual(first.trace);
    expect({ ...untold, trace: [] }).toEqual({ ...first, trace: [] });
  });

  it(`keeps every invariant for ${SEEDS} seeds (I1–I8)`, { timeout: DEADLINE_MS }, async () => {
    const { seeds, failures, figures, seconds } = await simulateMany({ from: 1, count: SEEDS });
    console.log(`${seeds} seeds in ${seconds.toFixed(0)} s, ${JSON.stringify(figures)}`);
    expect(failures.map(({ seed, failure }) => `npm run simulate -- --seed ${seed}: ${failure}`)).toEqual([]);
    expect(seeds).toBe(SEEDS);
    // A world in which nothing happens keeps every invariant, too.
    expect(Object.keys(figures.faults)).toHaveLength(22);
    for (const [name, count] of Object.entries({ ...figures, ...figures.faults }))
      if (typeof count === "number") expect(count, name).toBeGreaterThan(100);
  });
});
