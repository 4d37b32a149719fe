import type { DispatchEvent } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import type { WatchUpdate } from "../../watch.ts";

/** How the conferences of a lost server come to others, taken from the dispatch table's watch. */
export interface Moves {
  readonly serverId: string;
  /** How many the server hosted. */
  readonly expected: number;
  /** For each of them that is elsewhere, under a higher epoch: when its new row could be read. Sorted. */
  readonly readableAtMs: readonly number[];
  /** Conferences of other servers whose rows have changed their place or epoch, or went away. */
  readonly othersMoved: ReadonlySet<string>;
  /** Takes in an update that arrived at this moment. Gives the new rows of the server's conferences. */
  apply(update: WatchUpdate<DispatchEvent>, nowMs: number): Dispatch[];
  /** Takes note that a client could read a new row no earlier than this. */
  readable(conferenceId: string, nowMs: number): void;
  /** Compares with all rows as they are at the end, which also finds what a watch might have missed. */
  compare(rows: readonly Dispatch[]): void;
}

/** @param before all rows at the time of the loss */
export function createMoves(before: readonly Dispatch[], serverId: string): Moves {
  const rows = new Map(before.map((row) => [row.conferenceId, row]));
  const expected = before.filter((row) => row.serverId === serverId).length;
  const readableAt = new Map<string, number>();
  const othersMoved = new Set<string>();
  const isElsewhere = (row: Dispatch, old: Dispatch) => row.serverId !== serverId && row.epoch > old.epoch;
  const differs = (row: Dispatch, old: Dispatch) => row.serverId !== old.serverId || row.epoch !== old.epoch;
  return {
    serverId,
    expected,
    get readableAtMs() {
      return [...readableAt.values()].sort((a, b) => a - b);
    },
    othersMoved,
    apply(update, nowMs) {
      if (update.kind === "restart") return [];
      const moved: Dispatch[] = [];
      for (const { type, dispatch } of update.events) {
        const old = dispatch && rows.get(dispatch.conferenceId);
        if (!dispatch || !old) continue;
        if (old.serverId !== serverId) {
          if (type === EventType.DELETE || differs(dispatch, old)) othersMoved.add(dispatch.conferenceId);
        } else if (type === EventType.PUT && isElsewhere(dispatch, old)) {
          if (readableAt.has(dispatch.conferenceId)) continue;
          readableAt.set(dispatch.conferenceId, nowMs);
          moved.push(dispatch);
        }
      }
      return moved;
    },
    readable(conferenceId, nowMs) {
      readableAt.set(conferenceId, Math.max(nowMs, readableAt.get(conferenceId) ?? nowMs));
    },
    compare(after) {
      const now = new Map(after.map((row) => [row.conferenceId, row]));
      for (const [conferenceId, old] of rows) {
        const row = now.get(conferenceId);
        if (old.serverId !== serverId) {
          if (!row || differs(row, old)) othersMoved.add(conferenceId);
        } else if (!row || !isElsewhere(row, old)) readableAt.delete(conferenceId);
      }
    },
  };
}

/**
 * The value that this part of all values does not exceed (nearest rank); undefined when there are none.
 * @param sorted the smallest first
 * @param part above 0, at most 1
 */
export function percentile(sorted: readonly number[], part: number): number | undefined {
  return sorted[Math.ceil(sorted.length * part) - 1];
}
