import { Code, ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { ErrorInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import type { CallRecord, History, Outcome, WatchRecord } from "./history.ts";

/** When a call was made and answered, and how. */
export interface Timed<T> {
  readonly invokedMs: number;
  readonly returnedMs: number;
  readonly outcome: Outcome<T>;
}

/** Keeps what clients see. */
export interface Recorder {
  readonly history: History;
  /** Whether there is no room for more: a run then ends early. */
  readonly full: boolean;
  /** Calls by outcome, and the reasons of those that were not carried out or may not have been. */
  readonly counts: { ok: number; failed: number; unknown: number };
  readonly reasons: ReadonlyMap<string, number>;
  add(call: CallRecord): void;
  watched(record: WatchRecord): void;
}

/** About 200 MB of records; an hour of calls. */
const MAX_RECORDS = 500_000;

export function createRecorder(): Recorder {
  const calls: CallRecord[] = [];
  const watches: WatchRecord[] = [];
  const counts = { ok: 0, failed: 0, unknown: 0 };
  const reasons = new Map<string, number>();
  return {
    history: { calls, watches },
    get full() {
      return calls.length + watches.length >= MAX_RECORDS;
    },
    counts,
    reasons,
    add(call) {
      calls.push(call);
      const { outcome } = call;
      counts[outcome.kind] += 1;
      if (outcome.kind === "ok") return;
      const reason = `${call.call} ${outcome.kind}: ${outcome.reason}`;
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    },
    watched(record) {
      watches.push(record);
    },
  };
}

/** Runs a call and says how it went. @param once whether the client sends it once */
export async function timed<T>(once: boolean, run: () => Promise<T>): Promise<Timed<T>> {
  const invokedMs = performance.now();
  const outcome = await run().then(
    (result): Outcome<T> => ({ kind: "ok", result }),
    (err: unknown) => outcomeOf(err, once),
  );
  return { invokedMs, returnedMs: performance.now(), outcome };
}

/** With these and a reason of ours the contract says that nothing was done. */
const REFUSALS: ReadonlySet<Code> = new Set([Code.NotFound, Code.FailedPrecondition, Code.AlreadyExists]);

function outcomeOf(err: unknown, once: boolean): Outcome<never> {
  const error = ConnectError.from(err);
  // That would be the run's own fault.
  if (error.code === Code.InvalidArgument || error.code === Code.Unimplemented) throw error;
  const reason = reasonOf(error);
  const name = reason === undefined ? (Code[error.code] ?? "unknown") : ErrorReason[reason];
  if (reason !== undefined && REFUSALS.has(error.code)) return { kind: "failed", reason: name };
  const withoutEffect = error.findDetails(ErrorInfoSchema).some(({ metadata }) => metadata.effect === "none");
  return { kind: once && withoutEffect ? "failed" : "unknown", reason: name };
}
