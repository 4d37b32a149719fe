/** Delays between attempts: exponential, capped, with full jitter so that many clients do not come back together. */
export interface Backoff {
  /** How long to wait before the next attempt, in milliseconds; grows with each call. */
  nextMs(): number;
  /** Starts over, after a success. */
  reset(): void;
}

export interface BackoffOptions {
  /** The first delay's upper end. Default 100 ms. */
  readonly initialMs?: number;
  /** No delay is longer. Default 5,000 ms. */
  readonly maxMs?: number;
  /** A number in [0, 1); Math.random by default, seeded in tests. */
  readonly random?: () => number;
}

/** Each delay lies between half of its upper end and that end; the upper end doubles up to the maximum. */
export function createBackoff(options: BackoffOptions = {}): Backoff {
  const { initialMs = 100, maxMs = 5_000, random = Math.random } = options;
  let upperMs = initialMs;
  return {
    nextMs() {
      const delayMs = upperMs / 2 + (upperMs / 2) * random();
      upperMs = Math.min(upperMs * 2, maxMs);
      return delayMs;
    },
    reset() {
      upperMs = initialMs;
    },
  };
}
