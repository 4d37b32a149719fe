import { Code } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { OperationContext } from "../operations/context.ts";
import { type Change, type ChangeLog, WatchLostError } from "../view/change-log.ts";

/** So many events of the first listing go into one message. */
const SNAPSHOT_BATCH = 500;

/**
 * Serves a watch: when it begins at revision 0 first all that exists, in messages without a revision to resume from,
 * and then what changes.
 *
 * @param revision the revision that the snapshot shows
 * @throws {ConnectError} OUT_OF_RANGE, RESOURCE_EXHAUSTED
 */
export async function* serveWatch<E>(
  context: OperationContext,
  log: ChangeLog<E>,
  fromRevision: bigint,
  snapshot: () => { readonly revision: bigint; readonly events: readonly E[] },
  signal: AbortSignal,
): AsyncGenerator<Change<E>> {
  try {
    let from = fromRevision;
    if (from === 0n) {
      const { revision, events } = snapshot();
      from = revision;
      for (let start = 0; start < events.length; start += SNAPSHOT_BATCH) {
        yield { revision: 0n, events: events.slice(start, start + SNAPSHOT_BATCH) };
      }
    } else if (from > context.view.revision) {
      await requireKnown(context, from, signal);
    }
    for await (const change of log.follow(from, signal)) {
      // Progress says that nothing has changed, which a replica that has lost its store cannot know.
      if (change.events.length === 0 && !context.feed.fresh) continue;
      yield change;
    }
    // It ends when the signal aborts, and the caller is to learn why.
    signal.throwIfAborted();
  } catch (err) {
    if (!(err instanceof WatchLostError)) throw err;
    if (err.fellBehind || fromRevision === 0n) {
      throw statusError(
        Code.ResourceExhausted,
        ErrorReason.SLOW_CONSUMER,
        "the watch did not keep up with the changes; watch again from revision 0",
      );
    }
    throw outOfRange(fromRevision, "is no longer kept");
  }
}

/**
 * A revision that the view has not reached is one of another replica, which this one will reach in a moment; or one of
 * data that the store does not hold any more, and would not reach for long.
 */
async function requireKnown({ store, keys }: OperationContext, fromRevision: bigint, signal: AbortSignal) {
  const { revision } = await store.range({ key: keys.round }, signal);
  if (revision < fromRevision)
    throw outOfRange(fromRevision, "is not one of this store, whose data was replaced");
}

function outOfRange(revision: bigint, problem: string) {
  return statusError(
    Code.OutOfRange,
    ErrorReason.REVISION_COMPACTED,
    `revision ${revision} ${problem}; watch again from revision 0`,
  );
}
