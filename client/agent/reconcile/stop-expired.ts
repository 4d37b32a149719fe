import { type Clock, sleep } from "../../../common/clock.ts";
import type { HostedConference, HostedConferences } from "../hosted.ts";

export interface StopExpiredOptions {
  readonly hosted: Pick<HostedConferences, "all">;
  /** When the dispatch table gave its last sign of life, on the monotonic clock. */
  readonly heardMs: () => number;
  readonly stop: (conference: HostedConference, cause: string) => void;
  readonly clock: Clock;
}

/** While the control plane is away: enough that an end which it told in time comes first. */
export const EXPIRY_SLACK_MS = 5_000;

/**
 * While the control plane tells of the table, which then says itself what has ended: clocks that differ by less end nothing
 * early.
 */
export const FOLLOWED_EXPIRY_SLACK_MS = 60_000;

/** Half as long again as the table's watch is silent when nothing changes. */
export const TABLE_SILENCE_MS = 15_000;

const SWEEP_INTERVAL_MS = 1_000;

/** Stops what may no longer run, by this machine's wall clock, until the signal aborts. */
export async function stopExpired(options: StopExpiredOptions, signal: AbortSignal): Promise<void> {
  const { hosted, heardMs, stop, clock } = options;
  while (!signal.aborted) {
    const isFollowed = clock.monotonicMs() - heardMs() < TABLE_SILENCE_MS;
    const untilMs = clock.wallMs() - (isFollowed ? FOLLOWED_EXPIRY_SLACK_MS : EXPIRY_SLACK_MS);
    for (const conference of hosted.all())
      if (conference.validUntilMs <= untilMs) stop(conference, "its validity is over");
    await sleep(clock, SWEEP_INTERVAL_MS, signal).catch(() => {});
  }
}
