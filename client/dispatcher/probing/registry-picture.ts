import type { Client } from "@connectrpc/connect";
import { createBackoff } from "../../../common/backoff.ts";
import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import type {
  DispatcherEvent,
  DispatcherService,
} from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { type WatchUpdate, watchDispatchers } from "../../watch.ts";

/** The IDs of the live dispatchers, as the control plane's watch tells them. */
export interface RegistryPicture {
  /** Empty before the first complete list; while the control plane is away, as they were. */
  readonly ids: ReadonlySet<string>;
  /** Calls back after each change of `ids`; gives what ends that. */
  onChange(listener: () => void): () => void;
  /** Follows the registry until the signal aborts. */
  follow(signal: AbortSignal): Promise<void>;
}

export interface RegistryPictureOptions {
  readonly client: Pick<Client<typeof DispatcherService>, "watchDispatchers">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1); Math.random by default. */
  readonly random?: () => number;
}

export function createRegistryPicture({
  client,
  clock,
  logger,
  random = Math.random,
}: RegistryPictureOptions): RegistryPicture {
  const listeners = new Set<() => void>();
  let ids: ReadonlySet<string> = new Set();
  /** What the watch has told; before a list is complete, only a part of what there is. */
  let heard = new Set<string>();

  function take(update: WatchUpdate<DispatcherEvent>) {
    if (update.kind === "restart") {
      heard = new Set();
      return;
    }
    for (const { type, dispatcher } of update.events) {
      if (!dispatcher) continue;
      if (type === EventType.PUT) heard.add(dispatcher.dispatcherId);
      if (type === EventType.DELETE) heard.delete(dispatcher.dispatcherId);
    }
    // Revision 0 is the beginning of a list whose end is still to come.
    if (update.revision === 0n || sameMembers(ids, heard)) return;
    ids = new Set(heard);
    logger.debug({ dispatchers: ids.size }, "registry changed");
    for (const listener of listeners) listener();
  }

  return {
    get ids() {
      return ids;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async follow(signal) {
      const backoff = createBackoff({ random });
      while (!signal.aborted) {
        // Each watch begins with a list of its own.
        heard = new Set();
        try {
          const updates = watchDispatchers(client, {
            signal,
            clock,
            random,
            onInterrupted: (err) => logger.debug({ err }, "watch of the registry broke"),
          });
          for await (const update of updates) {
            backoff.reset();
            take(update);
          }
        } catch (err) {
          if (signal.aborted) return;
          logger.warn({ err }, "watch of the registry failed");
        }
        await sleep(clock, backoff.nextMs(), signal).catch(() => {});
      }
    },
  };
}

function sameMembers(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((member) => b.has(member));
}
