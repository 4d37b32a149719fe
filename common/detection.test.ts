import { describe, expect, it } from "vitest";
import {
  brakeAllowance,
  compileDetection,
  type DetectionSettings,
  isolationMs,
  readDetection,
  refusalDetectionMs,
  timeoutDetectionMs,
  toDetection,
} from "./detection.ts";

describe("compileDetection", () => {
  it("begins with the lan profile and takes single settings", () => {
    expect(compileDetection()).toMatchObject({ profile: "lan", probeIntervalMs: 1_000, observers: 3 });
    expect(compileDetection({ profile: "wan", timeouts: 6 })).toMatchObject({
      probeIntervalMs: 3_000,
      timeouts: 6,
    });
  });

  it.each([
    [{ profile: "moon" }, /one of lan, wan/],
    [{ probeIntervalMs: 5 }, /probeIntervalMs must be from 100 to 60000/],
    [{ refusals: 1.5 }, /refusals/],
    [{ brakeFraction: Number.NaN }, /brakeFraction/],
    [{ probes: 3 }, /unknown detection setting "probes"/],
  ])("refuses %j", (given, message) => {
    expect(() => compileDetection(given as Partial<DetectionSettings>)).toThrow(message);
  });
});

describe("the detection time", () => {
  it("of the lan profile leaves room for the moves within five seconds of silence, 1.5 s of refusals", () => {
    expect(timeoutDetectionMs(compileDetection())).toBeCloseTo(3_700);
    expect(refusalDetectionMs(compileDetection())).toBeCloseTo(1_350);
  });

  it("is less than the time after which an agent stops its conferences", () => {
    for (const profile of ["lan", "wan"] as const) {
      const settings = compileDetection({ profile });
      expect(isolationMs(settings)).toBeGreaterThan(timeoutDetectionMs(settings));
    }
  });
});

it("a third of the servers may fail at once, one of a few, and not the only one", () => {
  const allowed = [0, 1, 2, 3, 4, 6, 8, 20].map((servers) => brakeAllowance(compileDetection(), servers));
  expect(allowed).toEqual([0, 0, 1, 1, 1, 2, 2, 6]);
});

it("settings survive the way to a dispatcher and back", () => {
  const settings = compileDetection({ profile: "wan", probeIntervalMs: 1_234, brakeFraction: 0.25 });
  expect(readDetection(toDetection(settings))).toEqual(settings);
});
