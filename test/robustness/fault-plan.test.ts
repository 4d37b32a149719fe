import { describe, expect, it } from "vitest";
import { FAULT_KINDS, planFaults } from "./fault-plan.ts";

describe("the faults of a storm", () => {
  it("are the same for the same seed, and others for another", () => {
    expect(planFaults(7, 60_000)).toEqual(planFaults(7, 60_000));
    expect(planFaults(7, 60_000)).not.toEqual(planFaults(8, 60_000));
  });

  it("are of every kind in ten minutes, and end with the storm", () => {
    const faults = planFaults(1, 600_000);
    expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(FAULT_KINDS));
    expect(faults.every(({ atMs }) => atMs < 600_000)).toBe(true);
    expect(faults.length).toBeGreaterThan(300);
  });
});
