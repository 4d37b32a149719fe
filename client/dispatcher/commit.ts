import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import type { CommitResult, DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Epoch } from "./epoch.ts";
import type { Started } from "./work-item.ts";

/** What became of a started conference. */
export type CommitOutcome =
  | { readonly kind: "committed"; readonly revision: bigint }
  | { readonly kind: "rejected"; readonly reason: ErrorReason; readonly message: string };

export interface CommitOptions {
  readonly dispatcherId: string;
  readonly epoch: Epoch;
  readonly client: Client<typeof DispatcherService>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const COMMIT_TIMEOUT_MS = 5_000;

/** An epoch lives for seconds, so a commit whose outcome is unknown is repeated soon. */
const RETRY = { initialMs: 50, maxMs: 1_000 };

/**
 * Writes dispatches into the table, and goes on until the outcome of each is known: the same commit is repeated when its
 * outcome is not, which is safe because committing what is already committed the same way succeeds. Calls `settle` once
 * for each as soon as its outcome is known.
 *
 * @throws {EpochOverError | DispatcherReplacedError} when the epoch is over; what is not settled stays unknown
 * @throws the signal's reason when it aborts
 */
export async function commitDispatches(
  options: CommitOptions,
  batch: readonly Started[],
  signal: AbortSignal,
  settle: (started: Started, outcome: CommitOutcome) => void,
): Promise<void> {
  const { dispatcherId, epoch, client, clock, logger } = options;
  const backoff = createBackoff(RETRY);
  let pending = batch;
  while (pending.length > 0) {
    const dispatches = pending.map(({ assignment: { item, serverId, incarnation }, address }) => ({
      conferenceId: item.task.conferenceId,
      dispatchEpoch: item.task.dispatchEpoch,
      serverId,
      incarnation,
      address,
    }));
    epoch.assertValid();
    try {
      const { results, revision } = await client.commitDispatches(
        { dispatcherId, epoch: epoch.epoch, dispatches },
        { signal, timeoutMs: COMMIT_TIMEOUT_MS },
      );
      const outcomes = new Map(results.map((result) => [result.conferenceId, outcomeOf(result, revision)]));
      pending = pending.filter((started) => {
        const outcome = outcomes.get(started.assignment.item.task.conferenceId);
        if (outcome) settle(started, outcome);
        return !outcome;
      });
    } catch (err) {
      if (epoch.endedBy(err)) throw epoch.signal.reason;
      signal.throwIfAborted();
      if (err instanceof ConnectError && err.code === Code.InvalidArgument) {
        return commitEachHalf(options, pending, signal, settle, err);
      }
      logger.warn({ err, dispatches: pending.length }, "outcome of a commit is unknown; it is repeated");
    }
    if (pending.length > 0) await sleep(clock, backoff.nextMs(), signal);
  }
}

/** One item that is not valid, such as an address that is too long, must not keep the others from the table. */
async function commitEachHalf(
  options: CommitOptions,
  batch: readonly Started[],
  signal: AbortSignal,
  settle: (started: Started, outcome: CommitOutcome) => void,
  error: ConnectError,
) {
  const [only] = batch;
  if (batch.length === 1 && only) {
    return settle(only, {
      kind: "rejected",
      reason: ErrorReason.INVALID_FIELD,
      message: error.rawMessage,
    });
  }
  const middle = Math.ceil(batch.length / 2);
  await commitDispatches(options, batch.slice(0, middle), signal, settle);
  await commitDispatches(options, batch.slice(middle), signal, settle);
}

/** Undefined when the commit is to be repeated. */
function outcomeOf({ outcome }: CommitResult, revision: bigint): CommitOutcome | undefined {
  if (outcome.case === "dispatch") return { kind: "committed", revision };
  if (outcome.case === undefined) return undefined;
  const { reason, message } = outcome.value;
  if (reason === ErrorReason.CONTENTION || reason === ErrorReason.STORE_UNAVAILABLE) return undefined;
  return { kind: "rejected", reason, message };
}
