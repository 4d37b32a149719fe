import { timestampMs } from "../../../common/time.ts";
import { Conference_State as State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import {
  hasValidClaim,
  hasValidDispatch,
  isOver,
  type Picture,
  type PictureChange,
  type PicturedConference,
  reservedUnits,
} from "../picture.ts";

/** What operators asked for, and so may happen. */
export interface Wishes {
  readonly cancelled: ReadonlySet<string>;
  readonly ended: ReadonlySet<string>;
}

export interface RecordChecks {
  readonly wishes: Wishes;
  readonly maxFailedAttempts: number;
  /** By the wall clock of all, in milliseconds since 1970. */
  readonly nowMs: number;
  readonly revision: bigint;
  /** Whether the server was drained so lately that a replica may not know that it no longer is. */
  wasDrained(serverId: string): boolean;
}

/**
 * What is wrong with a change of a conference's record, in the world as it was before: I1 (one valid claim, one valid
 * dispatch), I2 (epochs rise), I3 (nothing is lost), I5 (nothing of the dead takes effect), I6 (no server above its
 * capacity), I8 (only what was lost or is drained moves).
 */
export function* checkConference(
  picture: Picture,
  before: PicturedConference | undefined,
  after: PicturedConference | undefined,
  checks: RecordChecks,
): Generator<string> {
  if (!after) {
    if (before) yield `I3: conference ${before.id} was deleted`;
    return;
  }
  const { id } = after;
  if (!before) {
    if (after.conference.state !== State.SCHEDULED)
      yield `I3: conference ${id} began as ${State[after.conference.state]}`;
    return;
  }
  if (isOver(before)) {
    const isCalledOff = after.conference.state === State.CANCELLED && checks.wishes.cancelled.has(id);
    if (before.conference.state !== after.conference.state && !isCalledOff)
      yield `I3: conference ${id} was ${State[before.conference.state]} and is ${State[after.conference.state]}`;
    return;
  }
  if (after.claim && after.claim.dispatchEpoch !== before.claim?.dispatchEpoch)
    yield* checkClaim(picture, before, after, checks);
  if (after.conference.dispatch?.epoch !== before.conference.dispatch?.epoch)
    yield* checkDispatch(picture, before, after);
  else if (after.conference.dispatch?.serverId !== before.conference.dispatch?.serverId)
    yield `I2: conference ${id} moved under its old epoch ${after.conference.dispatch?.epoch}`;
  yield* checkEnd(picture, before, after, checks);
}

function* checkClaim(
  picture: Picture,
  before: PicturedConference,
  after: PicturedConference,
  { revision, wasDrained }: RecordChecks,
): Generator<string> {
  const { id, claim } = after;
  if (!claim) return;
  // A release puts back the claim that its own had superseded.
  const isRestored = claim.dispatchEpoch !== revision;
  if (isRestored) {
    if (claim.dispatchEpoch !== after.conference.dispatch?.epoch)
      yield `I1: the claim of ${id} is neither new nor that of its dispatch`;
    return;
  }
  const who = `${claim.dispatcherId} claimed ${id}`;
  if (picture.dispatchers.get(claim.dispatcherId)?.epoch !== claim.epoch)
    yield `I5: ${who} under epoch ${claim.epoch}, which is over`;
  if (hasValidClaim(picture, before))
    yield `I1: ${who}, which ${before.claim?.dispatcherId} holds under the live epoch ${before.claim?.epoch}`;
  if (!hasValidDispatch(picture, before)) return;
  const server = picture.servers.get(before.conference.dispatch?.serverId ?? "");
  if (server && !server.drain && !wasDrained(server.serverId))
    yield `I8: ${who}, which is on ${server?.serverId}, neither lost nor drained`;
  if (!hasValidDispatch(picture, after))
    yield `I8: ${who}, and took it off ${server?.serverId} before it is elsewhere`;
}

function* checkDispatch(
  picture: Picture,
  before: PicturedConference,
  after: PicturedConference,
): Generator<string> {
  const { id } = after;
  const { dispatch, weight } = after.conference;
  const standing = before.conference.dispatch;
  if (!dispatch) {
    yield `I3: conference ${id} lost the record of its dispatch`;
    return;
  }
  const { claim } = before;
  const what = `the dispatch of ${id} to ${dispatch.serverId} under epoch ${dispatch.epoch}`;
  if (!claim || claim.dispatchEpoch !== dispatch.epoch)
    yield `I1: ${what} is not that of the claim ${claim?.dispatchEpoch}`;
  else if (!hasValidClaim(picture, before))
    yield `I5: ${what} is by ${claim.dispatcherId}, whose epoch ${claim.epoch} is over`;
  if (dispatch.epoch <= (standing?.epoch ?? 0n)) yield `I2: ${what} follows epoch ${standing?.epoch}`;
  const server = picture.servers.get(dispatch.serverId);
  if (server?.incarnation !== dispatch.incarnation)
    yield `I5: ${what} is for incarnation ${dispatch.incarnation}, and the server is in ${server?.incarnation}`;
  else if (server.state !== Server_State.UP || server.cordoned)
    yield `I8: ${what} is to a server that is ${server.cordoned ? "cordoned" : Server_State[server.state]}`;
  const others = reservedUnits(picture, dispatch.serverId);
  const moved =
    standing?.serverId === dispatch.serverId && hasValidDispatch(picture, before)
      ? before.conference.weight
      : 0;
  const units = others - moved + weight;
  if (units > (server?.capacity ?? 0))
    yield `I6: ${what} makes ${units} of ${server?.capacity} units reserved`;
}

function* checkEnd(
  picture: Picture,
  before: PicturedConference,
  after: PicturedConference,
  { wishes, maxFailedAttempts, nowMs }: RecordChecks,
): Generator<string> {
  const { id } = after;
  const { state, dispatch, failure, failedAttempts } = after.conference;
  const wasPlaced = hasValidDispatch(picture, before);
  const validUntilMs = dispatch?.validUntil ? timestampMs(dispatch.validUntil) : 0;
  if (state === State.CANCELLED && !wishes.cancelled.has(id)) yield `I3: nobody cancelled ${id}`;
  if (state === State.ENDED && !wishes.ended.has(id) && !(dispatch && validUntilMs <= nowMs))
    yield `I3: ${id} was ended before its time`;
  if (state === State.FAILED) {
    if (wasPlaced) yield `I3: ${id} was placed and is FAILED`;
    if (failedAttempts < maxFailedAttempts && after.endMs > nowMs)
      yield `I3: ${id} is FAILED before its time`;
    if (!failure?.message) yield `I3: ${id} is FAILED without a reason`;
  }
  if (
    state === State.SCHEDULED &&
    before.conference.state === State.CLAIMED &&
    !hasValidClaim(picture, before)
  )
    yield `I5: a claim of ${id} was released under epoch ${before.claim?.epoch}, which is over`;
  if (wasPlaced && (state === State.SCHEDULED || state === State.CLAIMED))
    yield `I8: ${id} was placed on ${before.conference.dispatch?.serverId} and is ${State[state]}`;
}

/** What is wrong with a report: it is by an epoch that lives, and goes with it. */
export function* checkObservation(
  { dispatchers }: Picture,
  change: Extract<PictureChange, { kind: "observation" }>,
): Generator<string> {
  if (change.next && dispatchers.get(change.dispatcherId)?.lease !== change.lease)
    yield `I5: the report ${change.id} is not on the lease of a live registration`;
}
