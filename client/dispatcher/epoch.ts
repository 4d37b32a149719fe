import type { Clock, Timer } from "../../common/clock.ts";
import { reasonOf } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";

/** One life of a registration. Whatever is done in its name stops when `signal` aborts, and asks `valid()` before it sends. */
export interface Epoch {
  /** The number the control plane knows it by. */
  readonly epoch: bigint;
  /** Aborts once the epoch is over, with an `EpochOverError` or a `DispatcherReplacedError`. */
  readonly signal: AbortSignal;
  /**
   * Whether the epoch may still be acted for. Looks at the clock, not at timers: a process that was paused wakes before
   * its timers have fired. Ends the epoch when the deadline has passed.
   */
  valid(): boolean;
  /** @throws {EpochOverError | DispatcherReplacedError} when the epoch is over */
  assertValid(): void;
  /** How long it stays valid without another heartbeat, in milliseconds; 0 when it is over. */
  remainingMs(): number;
  /** Ends the epoch when this error of a call says that it is over; tells whether it is. */
  endedBy(error: unknown): boolean;
}

/** An epoch as its registration sees it. */
export interface OwnedEpoch extends Epoch {
  /** Counts the validity anew from a successful call sent at this monotonic time; too late, it ends the epoch. */
  renew(sentAtMs: number): void;
  /** Ends the epoch; only the first reason counts. */
  end(reason: Error): void;
}

/** The registration is gone or can no longer be trusted; the work goes on under the next one. */
export class EpochOverError extends Error {
  override readonly name = "EpochOverError";
}

/** Another process uses this dispatcher's ID; there is no next registration. */
export class DispatcherReplacedError extends Error {
  override readonly name = "DispatcherReplacedError";

  constructor(dispatcherId: string) {
    super(`another process has registered as dispatcher ${JSON.stringify(dispatcherId)}, so this one stops`);
  }
}

/**
 * The part of the granted time to live that is given up, so that a call sent while the epoch is valid also arrives while
 * the control plane still holds the lease. Clocks that run at different speeds need far less.
 */
export const VALIDITY_MARGIN = 0.1;

export interface EpochOptions {
  readonly dispatcherId: string;
  readonly epoch: bigint;
  readonly ttlMs: number;
  /** When the call that granted it was sent, on the monotonic clock. */
  readonly sentAtMs: number;
  readonly clock: Clock;
}

/** The validity deadline is the send time of the last successful call + TTL - margin, on the monotonic clock. */
export function createEpoch({ dispatcherId, epoch, ttlMs, sentAtMs, clock }: EpochOptions): OwnedEpoch {
  const controller = new AbortController();
  const validForMs = ttlMs * (1 - VALIDITY_MARGIN);
  let deadlineMs = sentAtMs + validForMs;
  let timer: Timer;

  const end = (reason: Error) => {
    timer.clear();
    controller.abort(reason);
  };
  const arm = () => {
    timer = clock.setTimer(() => {
      if (valid()) arm();
    }, deadlineMs - clock.monotonicMs());
  };
  const valid = () => {
    if (controller.signal.aborted) return false;
    if (clock.monotonicMs() < deadlineMs) return true;
    end(new EpochOverError(`no heartbeat succeeded within ${validForMs} ms`));
    return false;
  };
  arm();

  return {
    epoch,
    signal: controller.signal,
    valid,
    assertValid() {
      if (!valid()) throw controller.signal.reason;
    },
    remainingMs: () => (valid() ? deadlineMs - clock.monotonicMs() : 0),
    endedBy(error) {
      const reason = reasonOf(error);
      if (reason === ErrorReason.EPOCH_EXPIRED) {
        end(new EpochOverError("the control plane says that the registration is gone", { cause: error }));
      }
      if (reason === ErrorReason.DISPATCHER_REPLACED) end(new DispatcherReplacedError(dispatcherId));
      return controller.signal.aborted;
    },
    renew(at) {
      if (!valid()) return;
      // The armed timer finds the later deadline when it fires, and goes on from there.
      deadlineMs = Math.max(deadlineMs, at + validForMs);
    },
    end,
  };
}
