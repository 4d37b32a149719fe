import type { Clock } from "../../common/clock.ts";
import type { Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";

/**
 * The tasks being worked on. FetchTasks sends again what is neither committed nor released, and a message on its way may
 * hold a task that was finished since, so tasks are told apart by conference and dispatch epoch, also for a while after.
 */
export interface InHand {
  readonly size: number;
  /** Takes those that are new; one whose conference is in hand under another dispatch epoch waits for the next fetch. */
  admit(tasks: readonly Task[]): Task[];
  /** Done with it: if it is sent again it is an old message. */
  finish(task: Task): void;
  /** Not done with it, but no longer worked on: it may be sent again. */
  forget(task: Task): void;
  /** Resolves once nothing is in hand. */
  empty(): Promise<void>;
}

/** Longer than any FetchTasks call and than a replica's view lags behind. */
const REMEMBER_MS = 30_000;

export function createInHand(clock: Clock): InHand {
  const current = new Map<string, bigint>();
  // In order of time, as finished conferences are put at the end.
  const finished = new Map<string, { readonly dispatchEpoch: bigint; readonly atMs: number }>();
  let emptied: PromiseWithResolvers<void> | undefined;

  function remove({ conferenceId, dispatchEpoch }: Task) {
    if (current.get(conferenceId) !== dispatchEpoch) return;
    current.delete(conferenceId);
    if (current.size > 0) return;
    emptied?.resolve();
    emptied = undefined;
  }

  function purge() {
    const beforeMs = clock.monotonicMs() - REMEMBER_MS;
    for (const [conferenceId, { atMs }] of finished) {
      if (atMs > beforeMs) return;
      finished.delete(conferenceId);
    }
  }

  return {
    get size() {
      return current.size;
    },
    admit(tasks) {
      purge();
      return tasks.filter(({ conferenceId, dispatchEpoch }) => {
        if (current.has(conferenceId)) return false;
        const last = finished.get(conferenceId);
        if (last && dispatchEpoch <= last.dispatchEpoch) return false;
        current.set(conferenceId, dispatchEpoch);
        return true;
      });
    },
    finish(task) {
      const { conferenceId, dispatchEpoch } = task;
      finished.delete(conferenceId);
      finished.set(conferenceId, { dispatchEpoch, atMs: clock.monotonicMs() });
      remove(task);
    },
    forget: remove,
    empty() {
      if (current.size === 0) return Promise.resolve();
      emptied ??= Promise.withResolvers();
      return emptied.promise;
    },
  };
}
