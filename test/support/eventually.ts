import { expect } from "vitest";

/** A deadline against hanging, not a measure of speed. */
const TIMEOUT_MS = 30_000;

/** Asserts what will be so, asking again and again. */
export function eventually<T>(read: () => T) {
  return expect.poll(read, { timeout: TIMEOUT_MS, interval: 10 });
}
