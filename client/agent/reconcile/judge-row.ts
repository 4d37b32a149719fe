import {
  type DispatchEvent,
  DispatchEvent_Cause,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";

/** What a change of the dispatch table means for a conference hosted here. */
export type Verdict =
  /** The table names this server and the hosted epoch. */
  | { readonly kind: "confirmed" }
  /** The table has moved on: the room here must go, at once or when those in it have had time to change over. */
  | { readonly kind: "stop"; readonly cause: string; readonly lingers: boolean }
  /** The dispatches of this server are void, this one among them; it will be placed again, perhaps here. */
  | { readonly kind: "lost"; readonly cause: string }
  /** The change is about an earlier epoch: what is hosted here was started after it. */
  | { readonly kind: "earlier" };

/**
 * Judges one event against what is hosted here under `hostedEpoch`. Epochs of a conference only rise, so whatever the
 * table says of a lower one than ours is the past.
 */
export function judgeRow(
  { type, cause, dispatch }: Pick<DispatchEvent, "type" | "cause" | "dispatch">,
  hostedEpoch: bigint,
  serverId: string,
): Verdict {
  if (!dispatch || dispatch.epoch < hostedEpoch) return { kind: "earlier" };
  const isHere = dispatch.serverId === serverId;
  if (type === EventType.DELETE) {
    const text = `dispatch is void: ${DispatchEvent_Cause[cause]}`;
    const isLost = isHere && dispatch.epoch === hostedEpoch && cause === DispatchEvent_Cause.SERVER_LOST;
    return isLost ? { kind: "lost", cause: text } : stop(text);
  }
  if (type !== EventType.PUT) return { kind: "earlier" };
  if (!isHere) {
    // Both rooms are there after a planned move, so the participants may change over one by one.
    const isDrained =
      dispatch.moveReason === Dispatch_MoveReason.DRAIN && dispatch.previousServerId === serverId;
    return stop("dispatched to another server", isDrained);
  }
  if (dispatch.epoch > hostedEpoch) return stop("dispatched under a higher epoch");
  return { kind: "confirmed" };
}

function stop(cause: string, lingers = false): Verdict {
  return { kind: "stop", cause, lingers };
}
