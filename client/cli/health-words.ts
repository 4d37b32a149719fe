import { timestampMs } from "../../common/time.ts";
import { Dispatch_MoveReason as MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import {
  type Server,
  type Server_Health,
  Server_Health_Cause,
  Server_State,
} from "../../proto/gen/convoke/v1/server_pb.js";
import { EMPTY_CELL, shortDuration } from "./cells.ts";

/** Why a server is in its state, in one word: `timeouts`, `held-by-brake`. */
export function causeWord(health: Server_Health | undefined): string {
  if (!health || health.cause === Server_Health_Cause.UNSPECIFIED) return EMPTY_CELL;
  return enumWord(Server_Health_Cause[health.cause], health.cause);
}

/** Why a conference was moved, in one word: `server-down`; a dash when it was not. */
export function moveWord(reason: MoveReason): string {
  return reason === MoveReason.UNSPECIFIED ? EMPTY_CELL : enumWord(MoveReason[reason], reason);
}

/** Until when a server that is not UP is kept so, in milliseconds since 1970; undefined when nothing but itself keeps it. */
export function heldUntilMs({ state, health }: Server): number | undefined {
  if (!health) return undefined;
  const until =
    state === Server_State.DOWN
      ? health.holdUntil
      : state === Server_State.SUSPECT && health.cause === Server_Health_Cause.RESTARTING
        ? health.restartDeadline
        : undefined;
  return until && timestampMs(until);
}

/** How much longer a server is kept from being UP: `45s`. */
export function holdCell(server: Server, nowMs: number): string {
  const untilMs = heldUntilMs(server);
  return untilMs === undefined || untilMs <= nowMs ? EMPTY_CELL : shortDuration(untilMs - nowMs);
}

/** How many conferences a drain has got rid of, of how many: `37/200`. What came since it began does not count. */
export function drainProgress({ drain, conferenceCount }: Server): { gone: number; of: number } {
  const of = Math.max(drain?.conferenceCount ?? 0, conferenceCount);
  return { gone: of - conferenceCount, of };
}

/** Whether it takes new conferences: `-`, `cordoned`, `draining 37/200` or `drained`. */
export function cordonCell(server: Server): string {
  const { cordoned, drain } = server;
  if (!drain) return cordoned ? "cordoned" : EMPTY_CELL;
  if (drain.done) return "drained";
  const { gone, of } = drainProgress(server);
  return `draining ${gone}/${of}`;
}

function enumWord(name: string | undefined, value: number): string {
  return name?.toLowerCase().replaceAll("_", "-") ?? String(value);
}
