import { describe, expect, it } from "vitest";
import { compileDispatcherOptions, type DispatcherOptions } from "./options.ts";

describe("dispatcher options", () => {
  it("are filled in and frozen", () => {
    const options = compileDispatcherOptions({ id: "d1" });
    expect(options).toEqual({
      id: "d1",
      endpoint: ["127.0.0.1:7400"],
      labels: {},
      windowMs: 600_000,
      tickMs: 1_000,
      ttlMs: 5_000,
      weight: 1,
      startRate: Number.POSITIVE_INFINITY,
      stopGraceMs: 5_000,
    });
    expect(Object.isFrozen(options)).toBe(true);
    expect(compileDispatcherOptions({ id: "d1", windowMs: 0 }).windowMs).toBe(0);
  });

  it.each<[string, Record<string, unknown>]>([
    ["not a dispatcher ID", { id: "D 1" }],
    ["not an address", { endpoint: "nowhere" }],
    ["windowMs must be", { windowMs: 86_400_001 }],
    ["tickMs must be", { tickMs: 99 }],
    ["ttlMs must be", { ttlMs: Number.NaN }],
    ["weight must be", { weight: 1.5 }],
    ["startRate must be", { startRate: 0 }],
    ["not an address", { metrics: "9300" }],
    ["stopGraceMs must be", { stopGraceMs: -1 }],
    ['unknown dispatcher option "tick"', { tick: 5 }],
  ])("are refused: %s", (message, wrong) => {
    expect(() => compileDispatcherOptions({ id: "d1", ...wrong } as DispatcherOptions)).toThrow(message);
  });
});
