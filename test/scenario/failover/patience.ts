import { expect } from "vitest";

/** A deadline against hanging, not a measure of speed. */
const TIMEOUT_MS = 60_000;

/** Asserts what will be so, asking processes again and again. */
export function soon<T>(read: () => T) {
  return expect.poll(read, { timeout: TIMEOUT_MS, interval: 25 });
}

/** How long a fault lasts is part of what is tested; everything else waits for conditions. */
export function faultLasts(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
