import {
  type DispatchEvent,
  DispatchEvent_Cause,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";

/** What a change of the dispatch table means for a conference hosted here. */
export type Verdict =
  /** The table names this server and the hosted epoch. */
  | { readonly kind: "confirmed" }
  /** The table has moved on: the room here must go. */
  | { readonly kind: "stop"; readonly cause: string }
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
  if (type === EventType.DELETE)
    return { kind: "stop", cause: `dispatch is void: ${DispatchEvent_Cause[cause]}` };
  if (type !== EventType.PUT) return { kind: "earlier" };
  if (dispatch.serverId !== serverId) return { kind: "stop", cause: "dispatched to another server" };
  if (dispatch.epoch > hostedEpoch) return { kind: "stop", cause: "dispatched under a higher epoch" };
  return { kind: "confirmed" };
}
