import fc from "fast-check";
import { expect, test } from "vitest";
import { compileDetection, type DetectionSettings } from "./detection.ts";
import { BRAKE_FORMULA, DETECTION_FORMULAS, substituteSettings } from "./detection-formulas.ts";

/** Calculates what a formula says once numbers stand in it. */
function evaluate(text: string): number {
  const expression = text.replaceAll("×", "*").replaceAll("−", "-");
  if (!/^[\d\s.()*+,-]*$/.test(expression.replaceAll(/\b(max|floor)\b/g, "")))
    throw new Error(`not numbers alone: ${expression}`);
  return new Function("max", "floor", `return ${expression}`)(Math.max, Math.floor) as number;
}

const settings = fc
  .record({
    probeIntervalMs: fc.integer({ min: 100, max: 60_000 }),
    probeTimeoutMs: fc.integer({ min: 50, max: 30_000 }),
    probeRetryMs: fc.integer({ min: 10, max: 30_000 }),
    refusals: fc.integer({ min: 1, max: 100 }),
    timeouts: fc.integer({ min: 1, max: 100 }),
    settleMs: fc.integer({ min: 0, max: 60_000 }),
    brakeFraction: fc
      .double({ min: 0.001, max: 1, noNaN: true })
      .map((value) => Math.round(value * 1e3) / 1e3),
  })
  .map((given) => compileDetection(given));

const numbersIn = (text: string, values: DetectionSettings) =>
  substituteSettings(text, values, (key) => String(values[key]));

test.each(DETECTION_FORMULAS)("the text of $name says what is calculated", ({ text, valueMs }) => {
  fc.assert(
    fc.property(settings, (values) => {
      expect(evaluate(numbersIn(text, values))).toBeCloseTo(valueMs(values), 3);
    }),
  );
});

test("the text of the brake's allowance says what is calculated", () => {
  const [text = ""] = BRAKE_FORMULA.text.split(", 0 of a single server");
  fc.assert(
    fc.property(settings, fc.integer({ min: 2, max: 5_000 }), (values, servers) => {
      // The function forgives what fractions like 1/3 lose in floating point, which may be a whole server at the edge.
      fc.pre(Math.abs(((servers * values.brakeFraction + 0.5) % 1) - 0.5) > 1e-6);
      const numbers = numbersIn(text, values).replace("servers", String(servers));
      expect(evaluate(numbers)).toBe(BRAKE_FORMULA.value(values, servers));
    }),
  );
  expect(BRAKE_FORMULA.value(compileDetection(), 1)).toBe(0);
});
