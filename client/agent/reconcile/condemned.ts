import { createBackoff } from "../../../common/backoff.ts";
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { DRIVER_PARALLELISM, type HostedConference, type HostedConferences } from "../hosted.ts";
import { mapBounded } from "../limiter.ts";
import { createWaker } from "../waker.ts";

/** Conferences that must stop, until they have. Holds only what is hosted, so it is as bounded as that. */
export interface Condemned {
  /**
   * Notes a conference under the epoch it has now; under a higher one it will not be touched.
   * @param afterMs how long it may linger. Default 0
   */
  add(conference: HostedConference, cause: string, afterMs?: number): void;
  /** Stops what is noted, and tries again when the driver cannot, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

export interface CondemnedOptions {
  readonly hosted: Pick<HostedConferences, "stop">;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** While nothing is noted the waker ends the wait; this is only how long one timer lasts. */
const IDLE_WAIT_MS = 3_600_000;

export function createCondemned({ hosted, logger, clock }: CondemnedOptions): Condemned {
  interface Note {
    readonly epoch: bigint;
    readonly cause: string;
    /** When to stop it (again), on the monotonic clock. */
    dueMs: number;
    tried: boolean;
  }
  const noted = new Map<string, Note>();
  const waker = createWaker(clock);
  const backoff = createBackoff({ initialMs: 1_000, maxMs: 30_000 });

  /** Whether it is done with; false when it must be tried again. */
  async function stopOne(conferenceId: string, { epoch, cause }: Note): Promise<boolean> {
    const { refusal } = await hosted.stop(conferenceId, epoch);
    if (refusal) return refusal.reason === ErrorReason.DISPATCH_EPOCH_STALE;
    logger.info({ conferenceId, dispatchEpoch: epoch, cause }, "conference stopped");
    backoff.reset();
    return true;
  }

  async function stopDue() {
    const nowMs = clock.monotonicMs();
    const due = [...noted].filter(([, { dueMs }]) => dueMs <= nowMs);
    const failed: Note[] = [];
    await mapBounded(due, DRIVER_PARALLELISM, async ([conferenceId, note]) => {
      if (!(await stopOne(conferenceId, note))) failed.push(note);
      else if (noted.get(conferenceId) === note) noted.delete(conferenceId);
    });
    if (failed.length === 0) return;
    const againMs = clock.monotonicMs() + backoff.nextMs();
    for (const note of failed) Object.assign(note, { dueMs: againMs, tried: true });
  }

  return {
    add({ conferenceId, dispatchEpoch }, cause, afterMs = 0) {
      const known = noted.get(conferenceId);
      const dueMs = clock.monotonicMs() + afterMs;
      // What lingers may have to go at once after all; what is said again changes nothing.
      const isSaid = known?.epoch === dispatchEpoch && (known.tried || known.dueMs <= dueMs);
      if (known && (known.epoch > dispatchEpoch || isSaid)) return;
      noted.set(conferenceId, { epoch: dispatchEpoch, cause, dueMs, tried: false });
      waker.wake();
    },
    async run(signal) {
      while (!signal.aborted) {
        const nextMs = Math.min(...[...noted.values()].map(({ dueMs }) => dueMs));
        const waitMs = Math.min(Math.max(nextMs - clock.monotonicMs(), 0), IDLE_WAIT_MS);
        await waker.wait(waitMs, signal).catch(() => {});
        if (signal.aborted) return;
        await stopDue();
      }
    },
  };
}
