import { brakeAllowance, type DetectionSettings } from "../../common/detection.ts";
import { timestampMs } from "../../common/time.ts";
import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";

/** How many servers fail together, and whether that is too many to believe. */
export interface BrakeCount {
  /** Servers that fail now, and those that were declared DOWN within the window. */
  readonly failing: number;
  /** All servers but those that have been DOWN for longer than the window. */
  readonly servers: number;
  /** How many may fail. */
  readonly allowed: number;
  /** Whether nothing more is declared DOWN. */
  readonly isEngaged: boolean;
  /** Whether it would be engaged had an operator not released it. */
  readonly isReleased: boolean;
  /** When the count sinks by itself next, by the wall clock; undefined when only votes can change it. */
  readonly nextMs: number | undefined;
}

/**
 * Counts the brake. When many servers fail at the same time it is rarely they who have failed; then nothing more is
 * declared DOWN, since moving all their conferences would do more harm than to wait. A server that fails and is held
 * counts as long as it fails: were it to leave the count after the window, the brake would let go of what it held.
 *
 * @param standings the servers of which there is anything to tell; `isFailing`: a majority of its observers reports
 *   failures, which nobody had announced
 * @param others how many servers there are beside these, all well
 */
export function countBrake(
  standings: Iterable<{ readonly server: Server; readonly isFailing: boolean }>,
  others: number,
  settings: Pick<DetectionSettings, "brakeFraction" | "brakeWindowMs">,
  { nowMs, releasedUntilMs }: { readonly nowMs: number; readonly releasedUntilMs: number },
): BrakeCount {
  let failing = 0;
  let servers = others;
  let nextMs: number | undefined;
  for (const { server, isFailing } of standings) {
    const { downTime } = server.health ?? {};
    const leavesMs = downTime ? timestampMs(downTime) + settings.brakeWindowMs : 0;
    const isRecent = leavesMs > nowMs;
    if (isRecent) nextMs = Math.min(nextMs ?? leavesMs, leavesMs);
    const isDown = server.state === Server_State.DOWN;
    if (isDown && !isRecent) continue;
    servers += 1;
    if (isRecent || (isFailing && !isDown)) failing += 1;
  }
  const allowed = brakeAllowance(settings, servers);
  const isExceeded = failing > allowed;
  const isReleased = isExceeded && releasedUntilMs > nowMs;
  return { failing, servers, allowed, isEngaged: isExceeded && !isReleased, isReleased, nextMs };
}
