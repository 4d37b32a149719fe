import type { ConvokeClient } from "../../../client/transport/client.ts";
import { watchDispatches } from "../../../client/watch.ts";
import {
  type DispatchEvent,
  DispatchEvent_Cause,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { recordWatch, type WatchHistory } from "./watch-history.ts";

/** An event in a few words, so that what was not expected can be read. */
export function inWords({ cause, dispatch }: DispatchEvent): string {
  const { conferenceId, previousServerId, serverId } = dispatch ?? {};
  const from = previousServerId ? ` from ${previousServerId}` : "";
  return `${conferenceId} ${DispatchEvent_Cause[cause]}${from} on ${serverId}`;
}

/**
 * All that WatchDispatches has told since before there were conferences, and the table as it follows from that. A
 * conference has at most one row at a time by the form of it; `violations` says where else the stream breaks its word.
 */
export interface TableHistory extends WatchHistory<DispatchEvent> {
  /** The valid rows now. */
  readonly rows: ReadonlyMap<string, Dispatch>;
  /** The conferences whose row was taken away without another in its place, in order. */
  readonly interruptions: readonly string[];
  /** Epochs that sink (I2), and moves that do not say from where. */
  readonly violations: readonly string[];
  /** What was told after the first `from` events, once everything so far has been told. */
  since(from: number): Promise<DispatchEvent[]>;
}

export function recordTable(client: ConvokeClient): TableHistory {
  const rows = new Map<string, Dispatch>();
  const last = new Map<string, Dispatch>();
  const interruptions: string[] = [];
  const violations: string[] = [];

  function onEvent({ type, dispatch, cause }: DispatchEvent) {
    if (!dispatch) return void violations.push("an event without a row");
    const { conferenceId: id, epoch, serverId, previousServerId } = dispatch;
    const before = last.get(id);
    last.set(id, dispatch);
    if (type === EventType.DELETE) {
      if (rows.delete(id)) interruptions.push(id);
      else violations.push(`${id}: a row ended that was not there`);
      return;
    }
    rows.set(id, dispatch);
    if (!before || cause === DispatchEvent_Cause.EXISTING) return;
    if (epoch < before.epoch) violations.push(`${id}: epoch ${epoch} after ${before.epoch}`);
    if (cause === DispatchEvent_Cause.MOVED) {
      if (epoch <= before.epoch) violations.push(`${id}: moved under the epoch ${epoch} of before`);
      if (previousServerId !== before.serverId)
        violations.push(`${id}: moved from ${before.serverId}, and says from ${previousServerId}`);
    } else if (serverId !== before.serverId) {
      violations.push(`${id}: on another server by ${DispatchEvent_Cause[cause]}`);
    }
  }

  const history = recordWatch<DispatchEvent>({
    watch: (signal) => watchDispatches(client.conferences, { signal }),
    peek: (revision, signal) => client.conferences.watchDispatches({ revision }, { signal }),
    onEvent,
    onGap: () => rows.clear(),
  });
  return Object.assign(history, {
    rows,
    interruptions,
    violations,
    async since(from: number) {
      await history.caughtUp();
      return history.told.slice(from).map(({ event }) => event);
    },
  });
}
