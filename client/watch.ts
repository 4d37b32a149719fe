import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../common/backoff.ts";
import { type Clock, sleep, systemClock } from "../common/clock.ts";
import type { ConferenceService, DispatchEvent } from "../proto/gen/convoke/v1/conference_service_pb.js";
import type { DispatcherEvent, DispatcherService } from "../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { ServerEvent, ServerService } from "../proto/gen/convoke/v1/server_service_pb.js";

/** What a watch that resumes by itself tells. */
export type WatchUpdate<E> =
  /** Changes in order; `events` is empty when there is only progress. Everything up to `revision` has been told. */
  | { readonly kind: "events"; readonly revision: bigint; readonly events: readonly E[] }
  /** Changes were missed: forget what was told so far. All that exists now follows, as it does at the beginning. */
  | { readonly kind: "restart"; readonly cause: ConnectError };

export interface WatchOptions {
  /** Ends the watch: the iteration then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Resume after this revision, taken from an earlier update. Default 0: all that exists now comes first. */
  readonly revision?: bigint;
  /** Called before each wait, with the error that broke the stream; undefined when the server ended it without one. */
  readonly onInterrupted?: (error: ConnectError | undefined, retryInMs: number) => void;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** A number in [0, 1) for the jitter of the waits. Default: Math.random. */
  readonly random?: () => number;
}

/**
 * Watches the dispatch table across broken streams and restarts of the control plane: resumes after the last revision
 * with a back-off of up to 5 s, so that no change is lost or told twice. When that revision is no longer kept it tells
 * `restart` and begins again.
 *
 * @throws {ConnectError} when the first attempt fails, or a later one in a way that waiting does not mend
 */
export function watchDispatches(
  client: Pick<Client<typeof ConferenceService>, "watchDispatches">,
  options: WatchOptions = {},
): AsyncGenerator<WatchUpdate<DispatchEvent>, void, undefined> {
  return resumingWatch((revision, signal) => client.watchDispatches({ revision }, { signal }), options);
}

/** Watches the conference servers as `watchDispatches` does the dispatch table. */
export function watchServers(
  client: Pick<Client<typeof ServerService>, "watchServers">,
  options: WatchOptions = {},
): AsyncGenerator<WatchUpdate<ServerEvent>, void, undefined> {
  return resumingWatch((revision, signal) => client.watchServers({ revision }, { signal }), options);
}

/** Watches the registry of dispatchers as `watchDispatches` does the dispatch table. */
export function watchDispatchers(
  client: Pick<Client<typeof DispatcherService>, "watchDispatchers">,
  options: WatchOptions = {},
): AsyncGenerator<WatchUpdate<DispatcherEvent>, void, undefined> {
  return resumingWatch((revision, signal) => client.watchDispatchers({ revision }, { signal }), options);
}

/** Statuses of a stream that another attempt does not mend. */
const FINAL_CODES: ReadonlySet<Code> = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.FailedPrecondition,
  Code.Unimplemented,
  Code.Unauthenticated,
]);

type OpenWatch<E> = (
  revision: bigint,
  signal: AbortSignal,
) => AsyncIterable<{ readonly revision: bigint; readonly events: readonly E[] }>;

async function* resumingWatch<E>(
  open: OpenWatch<E>,
  options: WatchOptions,
): AsyncGenerator<WatchUpdate<E>, void, undefined> {
  const { clock = systemClock, random = Math.random, onInterrupted } = options;
  const signal = options.signal ?? new AbortController().signal;
  const backoff = createBackoff({ random });
  let revision = options.revision ?? 0n;
  // Rows told at revision 0 are the beginning of a list that was not finished: they come again.
  let toldAtZero = false;
  let connected = false;
  for (;;) {
    let error: ConnectError | undefined;
    try {
      for await (const message of open(revision, signal)) {
        connected = true;
        backoff.reset();
        if (message.revision > revision) revision = message.revision;
        toldAtZero = revision === 0n && (toldAtZero || message.events.length > 0);
        yield { kind: "events", revision, events: message.events };
      }
    } catch (err) {
      signal.throwIfAborted();
      error = ConnectError.from(err);
      const missed = error.code === Code.OutOfRange && revision > 0n;
      if (!missed && (!connected || FINAL_CODES.has(error.code))) throw err;
      if (missed) {
        connected = true;
        revision = 0n;
        toldAtZero = false;
        yield { kind: "restart", cause: error };
        // The server is there, and the beginning is never too old: what waits longer only knows less for longer.
        signal.throwIfAborted();
        continue;
      }
    }
    signal.throwIfAborted();
    if (toldAtZero) {
      toldAtZero = false;
      yield {
        kind: "restart",
        cause: error ?? new ConnectError("the server ended the list before its end", Code.Unavailable),
      };
    }
    const delayMs = backoff.nextMs();
    onInterrupted?.(error, delayMs);
    await sleep(clock, delayMs, signal);
  }
}
