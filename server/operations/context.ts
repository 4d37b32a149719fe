import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { statusError } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Writer } from "../dispatch/records.ts";
import type { Settings } from "../settings.ts";
import type { Write } from "../store/counted-write.ts";
import type { Keys } from "../store/keys.ts";
import type { Store } from "../store/store.ts";
import type { Feed } from "../view/feed.ts";
import type { View } from "../view/view.ts";

/** What every operation works with. */
export interface OperationContext {
  readonly store: Store;
  /** Writes to the store, and is counted. */
  readonly write: Write;
  readonly keys: Keys;
  readonly view: View;
  readonly feed: Feed;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings: Settings;
}

/** How soon to come back when the store is lost. */
const STORE_RETRY_MS = 1_000;

/** How long an operation waits for the view to follow its own write or one it was told of. */
const CATCH_UP_TIMEOUT_MS = 5_000;

/** Marks a write as this attempt's. */
export function writerOf({ clock }: OperationContext): Writer {
  return { nowMs: Math.round(clock.wallMs()), attemptId: randomUUID() };
}

/** @throws {ConnectError} UNAVAILABLE while the view does not follow the store: nothing is decided on a stale view */
export function requireFresh({ feed }: OperationContext): void {
  if (!feed.fresh)
    throw storeUnavailable("the store is not reachable; reads are served from the last known state", {
      effect: "none",
    });
}

/**
 * @param effect `none` when the call has certainly changed nothing by then: it may be sent again, through another
 *   replica. Told in ErrorInfo.
 */
export function storeUnavailable(
  message: string,
  { cause, effect }: { readonly cause?: unknown; readonly effect?: "none" } = {},
) {
  return statusError(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, message, {
    retryAfterMs: STORE_RETRY_MS,
    cause,
    ...(effect ? { metadata: { effect } } : {}),
  });
}

/**
 * Waits until the view has a revision that was written or met in the store, so that what is read next is not older.
 * @throws {ConnectError} UNAVAILABLE when it does not follow in time
 */
export async function catchUp(
  { feed, view, clock }: OperationContext,
  revision: bigint,
  signal: AbortSignal,
) {
  if (view.revision >= revision) return;
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  sleep(clock, CATCH_UP_TIMEOUT_MS, controller.signal).then(
    () =>
      controller.abort(
        storeUnavailable("the store's changes do not arrive; the write may have taken effect"),
      ),
    () => {},
  );
  try {
    await feed.reached(revision, controller.signal);
  } finally {
    signal.removeEventListener("abort", stop);
    controller.abort();
  }
}

export function contention(what: string) {
  return statusError(Code.Aborted, ErrorReason.CONTENTION, `${what} is being changed by others; call again`, {
    retryAfterMs: 100,
  });
}
