import { expect } from "vitest";
import { DEADLINE_MS } from "./deadline.ts";

/** Asserts what will be so, asking again and again. */
export function eventually<T>(read: () => T) {
  return expect.poll(read, { timeout: DEADLINE_MS, interval: 10 });
}
