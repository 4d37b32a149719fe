import { type DispatchEvent, DispatchEvent_Cause } from "../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatch } from "../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../proto/gen/convoke/v1/watch_pb.js";
import type { WatchUpdate } from "./watch.ts";

/** What one who brings participants along is told of a conference. */
export interface Follower {
  /**
   * The conference is at this address: when following begins, if it is placed by then, and each time that it is placed
   * anew. `dispatch.previousServerId` and `dispatch.moveReason` say from where and why; `dispatch.epoch` is higher each
   * time. The old address may still answer: leave it once the new one is joined.
   */
  placed(dispatch: Dispatch): void;
  /** The conference has ended or was cancelled. Not told when its server is lost: it is placed again. */
  over?(dispatch: Dispatch): void;
}

/** Where conferences are, kept up to date by one watch however many are followed. */
export interface Whereabouts {
  /** The valid row of a conference. */
  get(conferenceId: string): Dispatch | undefined;
  /** Tells a follower until what is returned is disposed. */
  follow(conferenceId: string, follower: Follower): Disposable;
  /** Takes in an update of `watchDispatches`. */
  apply(update: WatchUpdate<DispatchEvent>): void;
}

/**
 * ```ts
 * const whereabouts = createWhereabouts();
 * whereabouts.follow("standup", { placed: ({ address }) => join(address) });
 * for await (const update of watchDispatches(client.conferences)) whereabouts.apply(update);
 * ```
 */
export function createWhereabouts(): Whereabouts {
  const rows = new Map<string, Dispatch>();
  const followers = new Map<string, Set<{ readonly follower: Follower; toldEpoch: bigint }>>();

  const tell = (dispatch: Dispatch) => {
    for (const entry of followers.get(dispatch.conferenceId) ?? []) {
      // A row that is told again, after a restart of the watch or a change of its end, is no other place.
      if (dispatch.epoch <= entry.toldEpoch) continue;
      entry.toldEpoch = dispatch.epoch;
      entry.follower.placed(dispatch);
    }
  };

  return {
    get: (conferenceId) => rows.get(conferenceId),
    follow(conferenceId, follower) {
      const entry = { follower, toldEpoch: 0n };
      const entries = followers.get(conferenceId) ?? new Set();
      entries.add(entry);
      followers.set(conferenceId, entries);
      const row = rows.get(conferenceId);
      if (row) tell(row);
      return {
        [Symbol.dispose]() {
          entries.delete(entry);
          if (entries.size === 0 && followers.get(conferenceId) === entries) followers.delete(conferenceId);
        },
      };
    },
    apply(update) {
      if (update.kind === "restart") {
        rows.clear();
        return;
      }
      for (const { type, dispatch, cause } of update.events) {
        if (!dispatch) continue;
        if (type === EventType.PUT) {
          rows.set(dispatch.conferenceId, dispatch);
          tell(dispatch);
          continue;
        }
        rows.delete(dispatch.conferenceId);
        if (cause !== DispatchEvent_Cause.ENDED && cause !== DispatchEvent_Cause.CANCELLED) continue;
        for (const { follower } of followers.get(dispatch.conferenceId) ?? []) follower.over?.(dispatch);
      }
    },
  };
}
