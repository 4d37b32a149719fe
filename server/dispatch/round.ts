import { highestRanked } from "../../common/rendezvous.ts";
import { timestampMs } from "../../common/time.ts";
import type { ConferenceEntry } from "../view/conference-entry.ts";
import { timeKeyAfter } from "../view/time-key.ts";
import type { View } from "../view/view.ts";
import { fairShares } from "./share.ts";

/**
 * A round shares out what falls due among the dispatchers of one registry. It begins with the first claim, and ends when
 * nothing is due any more or the registry changes; the next begins with clean accounts.
 *
 * Everyone's account counts what it has taken since the round began, placed or not, and the total is all accounts plus
 * what nobody has taken. So the total does not shrink because one dispatcher is quick to place its share, and the quick
 * one does not come back for a part of what belongs to the slow ones.
 */
export interface RoundAccounts {
  readonly members: readonly Account[];
  /** All accounts and what is untaken; 0 when nothing is due. */
  readonly total: number;
  /** How many conferences are due and not claimed. */
  readonly untaken: number;
}

export interface Account {
  readonly dispatcherId: string;
  readonly epoch: bigint;
  readonly taken: number;
  readonly share: number;
}

/**
 * The conferences that are due and not claimed, in order of start. One that found no room waits for its turn, or until a
 * server has room again: then as many are due as all servers together have room for.
 */
export function* dueConferences(view: View, nowMs: number, windowMs: number): Generator<ConferenceEntry> {
  const horizon = timeKeyAfter(nowMs + windowMs);
  let freeUnits = view.freeUnits - view.heldUnits;
  for (const [key, entry] of view.waiting.entries()) {
    if (key > horizon) return;
    // What is over can no longer be placed, and what was released waits for its turn.
    if (entry.endMs <= nowMs) continue;
    if (Number(entry.record.retryTimeMs) > nowMs) {
      const { weight } = entry.conference;
      if (!hasRoomAgain(view, entry, nowMs) || weight > freeUnits) continue;
      freeUnits -= weight;
    }
    yield entry;
  }
}

/** Room that is not for everyone, such as in another region, shall not have a conference claimed again and again. */
const LEAST_REST_MS = 1_000;

function hasRoomAgain(
  { roomRevision }: View,
  { record, conference, modRevision }: ConferenceEntry,
  nowMs: number,
) {
  if (!record.wantsRoom || roomRevision <= modRevision) return false;
  const releasedMs = conference.failure?.failureTime ? timestampMs(conference.failure.failureTime) : 0;
  return releasedMs + LEAST_REST_MS <= nowMs;
}

/** Whether the round in the view is that of the live registry. */
export function isRoundCurrent(view: View): boolean {
  const members = view.round?.members ?? [];
  if (members.length !== view.dispatchers.size) return false;
  return members.every((member) => view.dispatchers.get(member.dispatcherId)?.epoch === member.epoch);
}

/** Everyone's account, read from one view at one revision. */
export function roundAccounts(view: View, nowMs: number, windowMs: number): RoundAccounts {
  let untaken = 0;
  for (const _ of dueConferences(view, nowMs, windowMs)) untaken += 1;
  const registry = [...view.dispatchers.values()];
  const open = isRoundCurrent(view) && (untaken > 0 || hasUnplacedClaims(view));
  const taken = registry.map(({ dispatcher }) => (open ? view.takenBy(dispatcher.dispatcherId) : 0));
  const total = taken.reduce((a, b) => a + b, untaken);
  const shares = fairShares(
    total,
    registry.map(({ dispatcher }) => dispatcher.weight),
  );
  return {
    total,
    untaken,
    members: registry.map(({ dispatcher, epoch }, rank) => ({
      dispatcherId: dispatcher.dispatcherId,
      epoch,
      taken: taken[rank] ?? 0,
      share: shares[rank] ?? 0,
    })),
  };
}

/** Whether anything taken in the current round is still to be placed. */
export function hasUnplacedClaims(view: View): boolean {
  for (const { dispatcher } of view.dispatchers.values()) {
    for (const { claim } of view.claimsOf(dispatcher.dispatcherId)) {
      if (claim?.round === view.round?.revision) return true;
    }
  }
  return false;
}

/** What each account is still owed, in order of rank. */
export function owedShares(accounts: RoundAccounts): number[] {
  return accounts.members.map(({ share, taken }) => Math.max(0, share - taken));
}

/**
 * What a dispatcher that has had its share may take over: conferences that whoever they fell to has left past the
 * deadline, dealt out among all who are owed nothing; by their IDs, so that what others take moves none of them.
 */
export function takeoverConferences(
  rank: number,
  accounts: RoundAccounts,
  due: Iterable<ConferenceEntry>,
  isOverdue: (entry: ConferenceEntry) => boolean,
): ConferenceEntry[] {
  const prompt = owedShares(accounts)
    .map((owed, index) => (owed === 0 ? index : -1))
    .filter((index) => index >= 0);
  if (!prompt.includes(rank)) return [];
  const members = prompt.map(String);
  return [...due].filter(isOverdue).filter(({ id }) => highestRanked(id, members, 1)[0] === String(rank));
}
