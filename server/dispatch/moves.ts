import { highestRanked } from "../../common/rendezvous.ts";
import { timestampMs } from "../../common/time.ts";
import { Dispatch_MoveReason as MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { type ConferenceEntry, isPlaced } from "../view/conference-entry.ts";
import type { View } from "../view/view.ts";
import { byUrgency } from "./urgency.ts";

/** Why a conference that is claimed now leaves the server of its dispatch. */
export function moveReasonOf(view: View, entry: ConferenceEntry): MoveReason {
  const { dispatch } = entry.conference;
  if (!dispatch) return MoveReason.UNSPECIFIED;
  if (isPlaced(entry)) return MoveReason.DRAIN;
  const server = view.servers.get(dispatch.serverId)?.server;
  return server?.incarnation === dispatch.incarnation ? MoveReason.SERVER_DOWN : MoveReason.INCARNATION_ENDED;
}

/** The same when it arrives: a server that was drained may have died while its conferences were on their way. */
export function reasonAtCommit(view: View, entry: ConferenceEntry): MoveReason {
  const reason = entry.claim?.moveReason ?? MoveReason.UNSPECIFIED;
  return reason === MoveReason.DRAIN && !isPlaced(entry) ? moveReasonOf(view, entry) : reason;
}

/**
 * Drains use up to this part of the move budget, so that a server that dies while others are drained finds the rest free
 * for its conferences.
 */
const DRAIN_PART = 0.5;

/** How many more conferences may be claimed now to be moved, of those that have lost their server. */
export function failoverRoom(view: View, moveBudget: number): number {
  return Math.max(0, moveBudget - view.movesUnderWay);
}

/** The same for those on servers that are drained. */
export function drainRoom(view: View, moveBudget: number): number {
  return Math.max(0, Math.ceil(moveBudget * DRAIN_PART) - view.movesUnderWay);
}

/**
 * What a dispatcher is to move away from servers that are drained, the most urgent first. They fall to dispatchers by
 * rendezvous hashing and belong to no round: a drain changes nobody's share. One that its dispatcher gave back falls to
 * another with the next attempt.
 */
export function conferencesToMove(view: View, dispatcherId: string, nowMs: number): ConferenceEntry[] {
  const members = [...view.dispatchers.keys()];
  const due: ConferenceEntry[] = [];
  for (const entry of conferencesToDrain(view, nowMs)) {
    if (Number(entry.record.retryTimeMs) > nowMs) continue;
    const [mover] = highestRanked(`${entry.id}/${entry.conference.attempt}`, members, 1);
    if (mover === dispatcherId) due.push(entry);
  }
  return due.sort(byUrgency(nowMs));
}

/** What is on servers that are drained, is not on its way yet, and will not be gone by itself before the deadline. */
function* conferencesToDrain(view: View, nowMs: number): Generator<ConferenceEntry> {
  for (const serverId of view.draining) {
    const deadline = view.servers.get(serverId)?.server.drain?.deadline;
    const deadlineMs = deadline ? timestampMs(deadline) : 0;
    for (const entry of view.hostingOf(serverId).conferences) {
      if (entry.status !== "active" || validUntilMs(entry) <= nowMs) continue;
      if (nowMs >= deadlineMs || entry.endMs > deadlineMs) yield entry;
    }
  }
}

function validUntilMs({ conference: { dispatch }, endMs }: ConferenceEntry): number {
  return dispatch?.validUntil ? timestampMs(dispatch.validUntil) : endMs;
}
