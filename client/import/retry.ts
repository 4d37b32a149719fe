import { Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";

export interface CallOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Long enough for a batch of 500 on a busy control plane. */
const CALL_TIMEOUT_MS = 30_000;

/** With the default back-off this waits out half a minute without a control plane, as a restart may take. */
const MAX_ATTEMPTS = 10;

/**
 * Makes a call that is safe to repeat, each time with a deadline; again after a pause when the control plane is not
 * there. @throws what the last attempt threw
 */
export async function callWithRetry<T>(
  { clock, signal }: CallOptions,
  call: (options: { signal: AbortSignal; timeoutMs: number }) => Promise<T>,
): Promise<T> {
  const backoff = createBackoff();
  for (let attempt = 1; ; attempt++) {
    try {
      return await call({ signal, timeoutMs: CALL_TIMEOUT_MS });
    } catch (err) {
      signal.throwIfAborted();
      const again = err instanceof ConnectError && err.code === Code.Unavailable;
      if (!again || attempt === MAX_ATTEMPTS) throw err;
    }
    await sleep(clock, backoff.nextMs(), signal);
  }
}
