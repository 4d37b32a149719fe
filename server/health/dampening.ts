import { DAMPENING_MS, DAMPENING_RESET_MS } from "../../common/detection-formulas.ts";

/** How long a server is UP until it counts as quiet: its failures are forgotten. */
export const QUIET_MS = DAMPENING_RESET_MS;

/** How long a server stays DOWN that was declared so for the n-th time without quiet minutes in between, from 1. */
export function holdMs(failures: number): number {
  const index = Math.min(Math.max(failures, 1), DAMPENING_MS.length) - 1;
  return DAMPENING_MS[index] ?? 0;
}
