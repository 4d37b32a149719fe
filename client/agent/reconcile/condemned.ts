import { createBackoff } from "../../../common/backoff.ts";
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { DRIVER_PARALLELISM, type HostedConference, type HostedConferences } from "../hosted.ts";
import { mapBounded } from "../limiter.ts";
import { createWaker } from "../waker.ts";

/** Conferences that must stop, until they have. Holds only what is hosted, so it is as bounded as that. */
export interface Condemned {
  /** Notes a conference under the epoch it has now; under a higher one it will not be touched. */
  add(conference: HostedConference, cause: string): void;
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
  const noted = new Map<string, { readonly epoch: bigint; readonly cause: string }>();
  const waker = createWaker(clock);
  const backoff = createBackoff({ initialMs: 1_000, maxMs: 30_000 });

  async function stopOne(conferenceId: string) {
    const entry = noted.get(conferenceId);
    if (!entry) return;
    const { refusal } = await hosted.stop(conferenceId, entry.epoch);
    if (refusal && refusal.reason !== ErrorReason.DISPATCH_EPOCH_STALE) return;
    if (!refusal) {
      logger.info({ conferenceId, dispatchEpoch: entry.epoch, cause: entry.cause }, "conference stopped");
      backoff.reset();
    }
    if (noted.get(conferenceId) === entry) noted.delete(conferenceId);
  }

  return {
    add({ conferenceId, dispatchEpoch }, cause) {
      const known = noted.get(conferenceId);
      if (known && known.epoch >= dispatchEpoch) return;
      noted.set(conferenceId, { epoch: dispatchEpoch, cause });
      waker.wake();
    },
    async run(signal) {
      while (!signal.aborted) {
        const waitMs = noted.size > 0 ? backoff.nextMs() : IDLE_WAIT_MS;
        await waker.wait(waitMs, signal).catch(() => {});
        if (signal.aborted) return;
        await mapBounded([...noted.keys()], DRIVER_PARALLELISM, stopOne);
      }
    },
  };
}
