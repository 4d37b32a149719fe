import type { TaskRelease } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { judgeClaim, type Refusal } from "../dispatch/judge-dispatch.ts";
import { encodeRecord, releaseRecord } from "../dispatch/records.ts";
import { newestClaim } from "./commits.ts";
import { catchUp, type OperationContext, requireFresh, writerOf } from "./context.ts";
import { reachKnown } from "./known-revision.ts";
import { requireEpoch } from "./registrations.ts";

/** Gives claims back. Returns why each was refused, undefined where it was released, in the order given. */
export async function releaseTasks(
  context: OperationContext,
  dispatcherId: string,
  epoch: bigint,
  releases: readonly TaskRelease[],
  signal: AbortSignal,
): Promise<(Refusal | undefined)[]> {
  requireFresh(context);
  await requireEpoch(context, dispatcherId, epoch, signal);
  await reachKnown(context, newestClaim(releases), signal);
  const { view, keys, store, settings, logger } = context;
  const outcomes = new Map<TaskRelease, Refusal | undefined>();
  const size = store.maxOperations - 1;
  for (let from = 0; from < releases.length; from += size) {
    const writer = writerOf(context);
    const writes = new Map<TaskRelease, { key: string; modRevision: bigint; value: Uint8Array }>();
    for (const release of releases.slice(from, from + size)) {
      const entry = view.conferences.get(release.conferenceId);
      const refusal = entry
        ? judgeClaim(entry, { dispatcherId, epoch }, release.dispatchEpoch)
        : {
            reason: ErrorReason.CONFERENCE_NOT_FOUND,
            message: `there is no conference ${release.conferenceId}`,
          };
      outcomes.set(release, refusal);
      if (refusal || !entry) continue;
      const value = encodeRecord(releaseRecord(entry, release, settings.maxFailedAttempts, writer));
      writes.set(release, { key: keys.conference(entry.id), modRevision: entry.modRevision, value });
    }
    const fence = { key: keys.dispatcher(dispatcherId), modRevision: epoch };
    const result = await context.write("release", [fence], [...writes.values()], signal);
    await catchUp(context, result.revision, signal);
    if (result.fenced) await requireEpoch(context, dispatcherId, epoch, signal);
    for (const [release, { key }] of writes) {
      if (!result.fenced && result.written.has(key)) continue;
      outcomes.set(release, {
        reason: ErrorReason.CLAIM_LOST,
        message: `conference ${release.conferenceId} was changed by others at the same moment`,
      });
    }
  }
  const refused = [...outcomes.values()].filter((refusal) => refusal).length;
  logger.debug({ dispatcher: dispatcherId, released: releases.length - refused, refused }, "tasks released");
  return releases.map((release) => outcomes.get(release));
}
