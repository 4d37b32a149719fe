import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import type { QueryTotalResponse } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { isOver, type Picture, type PictureChange, type PicturedConference } from "../picture.ts";

/** Checks I4: what dispatchers are told is a fair share, and what they took of a round was one. */
export interface ShareChecks {
  /** To be called with each answer to QueryTotal. */
  told(dispatcherId: string, answer: QueryTotalResponse): Generator<string>;
  /** To be called with each change, before it is in the picture. */
  changes(change: PictureChange, picture: Picture): Generator<string>;
}

/** What was taken of a round, as long as nothing but taking and placing happens in it. */
interface Round {
  readonly revision: bigint;
  readonly members: readonly string[];
  readonly taken: Map<string, number>;
  /** Why the accounts need not be even at its end. */
  isDisturbed: boolean;
}

export function createShareChecks(): ShareChecks {
  let round: Round | undefined;

  function* checkRound({ revision, members, taken, isDisturbed }: Round): Generator<string> {
    if (isDisturbed) return;
    const total = [...taken.values()].reduce((sum, count) => sum + count, 0);
    for (const [rank, id] of members.entries()) {
      const count = taken.get(id) ?? 0;
      if (count !== shareOf(total, members.length, rank))
        yield `I4: of ${total} in round ${revision}, ${id} of rank ${rank} took ${count}`;
    }
  }

  return {
    *told(dispatcherId, { total, dispatcherCount, rank, share, revision }) {
      if (share !== shareOf(total, dispatcherCount, rank))
        yield `I4: ${dispatcherId} of rank ${rank} of ${dispatcherCount} is told a share of ${share} of ${total} at revision ${revision}`;
    },
    *changes(change, picture) {
      if (change.kind === "round") {
        if (round) yield* checkRound(round);
        const { revision, members } = change;
        // What was given back is due when its time has come, or when there is room: not as long as the round lasts.
        const isDisturbed = [...picture.conferences.values()].some(wasGivenBack);
        round = members.length > 0 ? { revision, members, taken: new Map(), isDisturbed } : undefined;
      } else if (!round) return;
      else if (change.kind === "dispatcher" || change.kind === "server") round.isDisturbed = true;
      else if (change.kind === "conference") takeNote(round, change.next, picture.conferences.get(change.id));
    },
  };
}

/** Counts a claim of the round; whatever gives a conference back or takes it otherwise disturbs the accounts. */
function takeNote(
  round: Round,
  after: PicturedConference | undefined,
  before: PicturedConference | undefined,
) {
  const claim = after?.claim;
  const standing = before?.claim;
  const isCounted = standing?.round === round.revision;
  if (!after || !before) round.isDisturbed ||= before !== undefined;
  else if (claim && claim.dispatchEpoch !== standing?.dispatchEpoch) {
    if (claim.round !== round.revision || isCounted) round.isDisturbed = true;
    else round.taken.set(claim.dispatcherId, (round.taken.get(claim.dispatcherId) ?? 0) + 1);
  } else if ((!claim && standing) || (isOver(after) && !isCounted)) round.isDisturbed = true;
}

function wasGivenBack({ conference: { state, failure } }: PicturedConference): boolean {
  return failure !== undefined && state === Conference_State.SCHEDULED;
}

function shareOf(total: number, members: number, rank: number): number {
  return Math.floor(total / members) + (rank < total % members ? 1 : 0);
}
