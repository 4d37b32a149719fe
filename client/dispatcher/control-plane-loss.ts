import { Code, ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";

/**
 * Whether a registration is over only because the control plane, or its store, does not answer.
 *
 * | state   | what happens                                                       | becomes |
 * | ------- | ------------------------------------------------------------------ | ------- |
 * | present | an epoch is over whose last heartbeat was not answered             | lost    |
 * | present | an epoch is over unsaid, and registering anew is not answered      | lost    |
 * | lost    | registered again, refused, or no longer tried                      | present |
 *
 * An epoch that the control plane itself has called over is no sign of a loss, whatever comes after: it may have decided
 * anything by then.
 */
export interface ControlPlaneLoss {
  /** A heartbeat has succeeded, or failed with this error. */
  heartbeat(error?: unknown): void;
  /** The epoch is over, for this reason. */
  epochOver(reason: unknown): void;
  /** Registering anew has failed with this error. */
  refused(error: unknown): void;
  /** Registered again, or no longer trying. */
  over(): void;
}

/** @param onChange called with true when the control plane is lost, and with false when that is over */
export function createControlPlaneLoss(onChange: (lost: boolean) => void): ControlPlaneLoss {
  let lost = false;
  let unanswered = false;
  /** Since an epoch that nobody has called over. */
  let mayBeLost = false;

  function set(next: boolean) {
    if (next === lost) return;
    lost = next;
    onChange(next);
  }

  return {
    heartbeat: (error) => {
      unanswered = error !== undefined && isUnanswered(error);
    },
    epochOver(reason) {
      mayBeLost = !(reason instanceof Error && reasonOf(reason.cause) === ErrorReason.EPOCH_EXPIRED);
      set(mayBeLost && unanswered);
      unanswered = false;
    },
    refused(error) {
      if (isAnswer(error)) {
        mayBeLost = false;
        set(false);
      } else if (mayBeLost && isUnanswered(error)) set(true);
    },
    over() {
      mayBeLost = false;
      set(false);
    },
  };
}

const SILENCE: ReadonlySet<Code> = new Set([Code.Unavailable, Code.DeadlineExceeded]);

/** Nobody there, no answer in time, or a replica that has lost the store. */
function isUnanswered(error: unknown): boolean {
  return error instanceof ConnectError && SILENCE.has(error.code);
}

/** Only a control plane that has its store says anything else by a reason of its own. */
function isAnswer(error: unknown): boolean {
  return reasonOf(error) !== undefined && !isUnanswered(error);
}
