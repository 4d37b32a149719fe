import { createBackoff } from "../../../common/backoff.ts";
import type { Clock } from "../../../common/clock.ts";

/** The token that proves who we are to etcd, obtained when first needed and again after it was refused. */
export interface Tokens {
  /**
   * The token in force; undefined when none is needed. After a failed login the same error is given again until a
   * back-off has passed: checking a password is made costly for the server on purpose.
   */
  current(): Promise<string | undefined>;
  /** Has the next call log in again, unless that has happened since. */
  refused(token: string | undefined): void;
}

/** @param login resolves with a new token, or undefined when the server wants none */
export function createTokens(login: () => Promise<string | undefined>, clock: Clock): Tokens {
  const backoff = createBackoff();
  let cached: Promise<string | undefined> | undefined;
  let value: string | undefined;
  let failedUntilMs = Number.NEGATIVE_INFINITY;
  let failure: unknown;

  async function renew() {
    try {
      value = await login();
      backoff.reset();
      return value;
    } catch (err) {
      failure = err;
      failedUntilMs = clock.monotonicMs() + backoff.nextMs();
      cached = undefined;
      throw err;
    }
  }

  return {
    current() {
      if (cached) return cached;
      if (clock.monotonicMs() < failedUntilMs) return Promise.reject(failure);
      cached = renew();
      return cached;
    },
    refused(token) {
      if (cached && value === token) {
        cached = undefined;
        value = undefined;
      }
    },
  };
}
