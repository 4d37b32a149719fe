import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { durationFromMs, durationMs } from "./time.ts";

describe("durations", () => {
  it("keep whole milliseconds there and back", () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e12, max: 1e12 }), (ms) => {
        const duration = durationFromMs(ms);
        expect(durationMs(duration)).toBe(ms);
        expect(Math.abs(duration.nanos)).toBeLessThan(1e9);
        expect(Number(duration.seconds) * duration.nanos).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  it("have fractions of a millisecond", () => {
    expect(durationMs(create(DurationSchema, { seconds: 1n, nanos: 500_000 }))).toBe(1000.5);
    expect(durationFromMs(1.5)).toMatchObject({ seconds: 0n, nanos: 1_500_000 });
  });
});
