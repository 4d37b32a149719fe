import type { Client } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import type {
  DispatcherService,
  Task,
  TaskRelease_Cause,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Epoch } from "./epoch.ts";

/** A claim to give back. */
export interface Release {
  readonly task: Task;
  readonly cause: TaskRelease_Cause;
  /** For people. */
  readonly message: string;
}

export interface ReleaseOptions {
  readonly dispatcherId: string;
  readonly epoch: Epoch;
  readonly client: Client<typeof DispatcherService>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Small enough that the messages fit into a request. */
const BATCH_SIZE = 500;

const RELEASE_TIMEOUT_MS = 5_000;

/** After this many tries the claims are left: FetchTasks sends them again. */
const MAX_TRIES = 3;

/** The contract's limit, in bytes. */
const MAX_MESSAGE_BYTES = 1_024;

/**
 * Gives claims back. Calls `settle` once for each: true when the claim is gone (given back now, or lost before), false
 * when this epoch may still hold it.
 *
 * @throws {EpochOverError | DispatcherReplacedError} when the epoch is over, and with it every claim
 * @throws the signal's reason when it aborts
 */
export async function releaseTasks(
  options: ReleaseOptions,
  releases: readonly Release[],
  signal: AbortSignal,
  settle: (release: Release, gone: boolean) => void,
): Promise<void> {
  for (let start = 0; start < releases.length; start += BATCH_SIZE) {
    const batch = releases.slice(start, start + BATCH_SIZE);
    const held = await releaseBatch(options, batch, signal);
    for (const release of batch) settle(release, !held.has(release.task.conferenceId));
  }
}

/** Gives the conferences whose claims may still be held. */
async function releaseBatch(
  { dispatcherId, epoch, client, clock, logger }: ReleaseOptions,
  batch: readonly Release[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const backoff = createBackoff();
  const releases = batch.map(({ task, cause, message }) => ({
    conferenceId: task.conferenceId,
    dispatchEpoch: task.dispatchEpoch,
    cause,
    message: truncated(message),
  }));
  for (let tries = 1; ; tries++) {
    epoch.assertValid();
    try {
      const { results } = await client.releaseTasks(
        { dispatcherId, epoch: epoch.epoch, releases },
        { signal, timeoutMs: RELEASE_TIMEOUT_MS },
      );
      return new Set(
        results.filter(({ rejection }) => isPassing(rejection?.reason)).map((one) => one.conferenceId),
      );
    } catch (err) {
      if (epoch.endedBy(err)) throw epoch.signal.reason;
      signal.throwIfAborted();
      logger.warn({ err, tasks: batch.length, tries }, "could not release tasks");
      if (tries === MAX_TRIES) return new Set(batch.map(({ task }) => task.conferenceId));
    }
    await sleep(clock, backoff.nextMs(), signal);
  }
}

function isPassing(reason: ErrorReason | undefined): boolean {
  return reason === ErrorReason.CONTENTION || reason === ErrorReason.STORE_UNAVAILABLE;
}

function truncated(text: string): string {
  if (Buffer.byteLength(text) <= MAX_MESSAGE_BYTES) return text;
  // Decoding replaces a character that was cut in two; it is dropped, as it may have grown.
  return Buffer.from(text)
    .subarray(0, MAX_MESSAGE_BYTES)
    .toString()
    .replace(/\uFFFD+$/, "");
}
