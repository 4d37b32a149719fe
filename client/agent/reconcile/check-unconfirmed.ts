import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { reasonOf } from "../../../common/rpc/status.ts";
import { type Conference, Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import type { ConferenceService } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import type { HostedConference, HostedConferences } from "../hosted.ts";
import { mapBounded } from "../limiter.ts";
import type { TablePicture } from "./table-picture.ts";

export interface CheckUnconfirmedOptions {
  readonly conferences: Pick<Client<typeof ConferenceService>, "getConference">;
  readonly serverId: string;
  readonly hosted: Pick<HostedConferences, "all">;
  readonly picture: Pick<TablePicture, "isConfirmed" | "reachedRevision">;
  readonly stop: (conference: HostedConference, cause: string) => void;
  readonly logger: Logger;
  readonly clock: Clock;
}

/**
 * A dispatcher commits within seconds of the start. One that has not done so for this long is dead or was refused, and
 * when it is alive after all the control plane says so.
 */
export const CONFIRM_TIMEOUT_MS = 60_000;

const SWEEP_INTERVAL_MS = 5_000;
/** What one sweep asks about at most, so that a mass start without commits does not flood the control plane. */
const CHECKS_PER_SWEEP = 200;
const CHECK_PARALLELISM = 4;
const CHECK_TIMEOUT_MS = 5_000;

/**
 * Finds what a crash left behind: conferences that were started here and never appeared in the dispatch table. They have
 * `CONFIRM_TIMEOUT_MS` for that, those that an earlier agent has started none. Each is stopped once the control plane, known to have seen its claim, says that the claim is neither open nor dispatched here.
 * Without an answer nothing is stopped.
 */
export async function checkUnconfirmed(options: CheckUnconfirmedOptions, signal: AbortSignal): Promise<void> {
  const { hosted, picture, clock } = options;
  let nextCheckMs = new Map<string, { readonly epoch: bigint; readonly atMs: number }>();
  while (!signal.aborted) {
    await sleep(clock, SWEEP_INTERVAL_MS, signal).catch(() => {});
    if (signal.aborted) return;
    const nowMs = clock.monotonicMs();
    const stillUnconfirmed: typeof nextCheckMs = new Map();
    const due: HostedConference[] = [];
    for (const conference of hosted.all()) {
      const { conferenceId, dispatchEpoch: epoch } = conference;
      if (picture.isConfirmed(conference)) continue;
      const planned = nextCheckMs.get(conferenceId);
      const firstMs = conference.epochSinceMs + (conference.adopted ? 0 : CONFIRM_TIMEOUT_MS);
      let atMs = planned?.epoch === epoch ? planned.atMs : firstMs;
      // The view asked must have seen the claim, or its answer is about the time before.
      const isDue = nowMs >= atMs && picture.reachedRevision >= epoch && due.length < CHECKS_PER_SWEEP;
      if (isDue) {
        due.push(conference);
        atMs = nowMs + CONFIRM_TIMEOUT_MS;
      }
      stillUnconfirmed.set(conferenceId, { epoch, atMs });
    }
    nextCheckMs = stillUnconfirmed;
    await mapBounded(due, CHECK_PARALLELISM, (conference) => checkOne(conference, options, signal));
  }
}

async function checkOne(conference: HostedConference, options: CheckUnconfirmedOptions, signal: AbortSignal) {
  const { conferences, serverId, stop, logger } = options;
  const { conferenceId, dispatchEpoch } = conference;
  try {
    const response = await conferences.getConference(
      { conferenceId },
      { signal, timeoutMs: CHECK_TIMEOUT_MS },
    );
    if (response.conference && isWanted(response.conference, dispatchEpoch, serverId)) return;
    stop(conference, "its dispatcher never committed it");
  } catch (err) {
    const unknown =
      ConnectError.from(err).code === Code.NotFound && reasonOf(err) === ErrorReason.CONFERENCE_NOT_FOUND;
    if (unknown) stop(conference, "the control plane does not know it");
    else if (!signal.aborted)
      logger.debug({ err, conferenceId, dispatchEpoch }, "unconfirmed conference not checked; it goes on");
  }
}

/** Whether the claim behind the epoch is still open, or has been dispatched here. */
function isWanted({ state, claim, dispatch }: Conference, dispatchEpoch: bigint, serverId: string): boolean {
  if (state === Conference_State.CLAIMED) return claim?.dispatchEpoch === dispatchEpoch;
  return (
    state === Conference_State.ACTIVE && dispatch?.epoch === dispatchEpoch && dispatch.serverId === serverId
  );
}
