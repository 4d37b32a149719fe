import { timestampFromMs } from "../../common/time.ts";
import {
  type Conference,
  type Conference_Claim,
  Conference_State,
} from "../../proto/gen/convoke/v1/conference_pb.js";
import { CALL_TIMEOUT_MS, type ClientContext, type Pool, pause, pick } from "./client-context.ts";
import type { SeenClaim, SeenConference } from "./history.ts";
import { timed } from "./recorder.ts";

/** How many conferences are under way at a time. */
const MAX_LIVE = 16;

/** Long enough that none ends by itself in a run. */
const LENGTH_MS = 12 * 3_600_000;

const MEAN_PAUSE_MS = 20;

/** Creates conferences, and reads, ends and cancels those of everybody. */
export async function runBookingClient(context: ClientContext, pool: Pool): Promise<void> {
  const { name, random, signal } = context;
  for (let created = 0; !signal.aborted; await pause(context, MEAN_PAUSE_MS)) {
    const conferenceId = pick(pool.live, random);
    const choice = random();
    if (conferenceId === undefined || (choice < 0.25 && pool.live.length < MAX_LIVE)) {
      const id = `${name}-${++created}`;
      await createConference(context, id);
      pool.add(id);
    } else if (choice < 0.55) {
      // A creation that did not land is asked for again; the same request makes no second one.
      const reason = await getConference(context, conferenceId);
      if (reason === "CONFERENCE_NOT_FOUND") await createConference(context, conferenceId);
    } else if (choice < 0.7) await getDispatch(context, conferenceId);
    else await finish(context, conferenceId, choice < 0.94 ? "end" : "cancel", pool);
  }
}

async function createConference({ name, once, api, recorder }: ClientContext, conferenceId: string) {
  const nowMs = Date.now();
  const conference = {
    conferenceId,
    startTime: timestampFromMs(nowMs),
    endTime: timestampFromMs(nowMs + LENGTH_MS),
  };
  const result = await timed(once, async () => {
    await api.conferences.createConference(
      { conference, requestId: conferenceId },
      { timeoutMs: CALL_TIMEOUT_MS },
    );
    return null;
  });
  recorder.add({ client: name, once, call: "create", args: { conferenceId }, ...result });
}

async function finish(
  { name, once, api, recorder }: ClientContext,
  conferenceId: string,
  call: "end" | "cancel",
  pool: Pool,
) {
  const options = { timeoutMs: CALL_TIMEOUT_MS };
  const result = await timed(once, async () => {
    if (call === "end") await api.conferences.endConference({ conferenceId }, options);
    else await api.conferences.cancelConference({ conferenceId }, options);
    return null;
  });
  recorder.add({ client: name, once, call, args: { conferenceId }, ...result });
  if (result.outcome.kind === "ok") pool.remove(conferenceId);
}

/** Why it could not be read; undefined when it was. */
export async function getConference(
  { name, once, api, recorder }: ClientContext,
  conferenceId: string,
): Promise<string | undefined> {
  const result = await timed(once, async () => {
    const { conference } = await api.conferences.getConference(
      { conferenceId },
      { timeoutMs: CALL_TIMEOUT_MS },
    );
    if (!conference) throw new Error("an answer without a conference");
    return toSeen(conference);
  });
  recorder.add({ client: name, once, call: "get", args: { conferenceId }, ...result });
  return result.outcome.kind === "ok" ? undefined : result.outcome.reason;
}

export async function getDispatch(
  { name, once, api, recorder }: ClientContext,
  conferenceId: string,
): Promise<void> {
  const result = await timed(once, async () => {
    const { dispatch } = await api.conferences.getDispatch({ conferenceId }, { timeoutMs: CALL_TIMEOUT_MS });
    return { conferenceId, epoch: Number(dispatch?.epoch), address: dispatch?.address ?? "" };
  });
  recorder.add({ client: name, once, call: "getDispatch", args: { conferenceId }, ...result });
}

const STATES = {
  [Conference_State.UNSPECIFIED]: undefined,
  [Conference_State.SCHEDULED]: "SCHEDULED",
  [Conference_State.CLAIMED]: "CLAIMED",
  [Conference_State.ACTIVE]: "ACTIVE",
  [Conference_State.ENDED]: "ENDED",
  [Conference_State.CANCELLED]: "CANCELLED",
  [Conference_State.FAILED]: "FAILED",
} as const;

export function toSeen({
  conferenceId,
  state,
  claim,
  supersededClaim,
  dispatch,
}: Conference): SeenConference {
  const name = STATES[state];
  if (!name) throw new Error(`conference ${conferenceId} has no state`);
  return {
    conferenceId,
    state: name,
    ...(claim ? { claim: toClaim(claim) } : {}),
    ...(supersededClaim ? { superseded: toClaim(supersededClaim) } : {}),
    ...(dispatch ? { row: { conferenceId, epoch: Number(dispatch.epoch), address: dispatch.address } } : {}),
  };
}

function toClaim({ dispatcherId, dispatcherEpoch, dispatchEpoch }: Conference_Claim): SeenClaim {
  return { dispatcherId, epoch: Number(dispatcherEpoch), dispatchEpoch: Number(dispatchEpoch) };
}
