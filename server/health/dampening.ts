/**
 * Flap dampening: a server that was declared DOWN comes back after 10 s at the earliest, after 60 s when that happens
 * again, and after 5 min from then on. Five quiet minutes UP, and it begins anew.
 */
const HOLDS_MS = [
  // Longer than the observers need to take a wrong verdict back.
  10_000,
  60_000,
  5 * 60_000,
] as const;

/** As long as the longest hold: whatever fails less often than that does not flap. */
export const QUIET_MS = 5 * 60_000;

/** How long a server stays DOWN that was declared so for the n-th time without quiet minutes in between. */
export function holdMs(failures: number): number {
  return HOLDS_MS[Math.min(Math.max(failures, 1), HOLDS_MS.length) - 1] ?? 0;
}
