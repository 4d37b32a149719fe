import {
  checkDeadEpochs,
  checkDispatchEpochs,
  checkShares,
  checkWatches,
  type Finding,
} from "./direct-checks.ts";
import { epochLives } from "./epochs.ts";
import type { CallRecord, History } from "./history.ts";
import { linearize, type Operation, shrink } from "./linearize.ts";
import { partition } from "./partition.ts";

export interface Verdict {
  readonly findings: readonly Finding[];
  /** Conferences whose operations were put in order, and those given up because the search grew too large. */
  readonly conferences: number;
  readonly undecided: readonly string[];
  /** The violation that is told with the fewest operations, in order of their calls. */
  readonly smallest?: { readonly conferenceId: string; readonly operations: readonly Operation[] };
}

/** Checks what clients saw of a run for I1–I5 and I7. */
export function checkHistory(history: History): Verdict {
  const { calls } = history;
  const lives = epochLives(calls);
  const partitions = partition(calls, lives);
  const findings = [
    ...checkDispatchEpochs(calls),
    ...checkDeadEpochs(calls, lives),
    ...checkShares(calls),
    ...checkWatches(history),
    ...checkNothingLost(calls),
  ];
  const undecided: string[] = [];
  let smallest: Verdict["smallest"];
  for (const [conferenceId, operations] of partitions) {
    const result = linearize(operations);
    if (result === "undecided") undecided.push(conferenceId);
    if (result !== "violation") continue;
    const message = "what clients saw cannot have happened one after the other";
    findings.push({ invariant: "I1", conferenceId, message });
    if (smallest && smallest.operations.length <= operations.length) continue;
    smallest = { conferenceId, operations };
  }
  if (smallest) {
    const operations = shrink(smallest.operations).toSorted((a, b) => a.invokedMs - b.invokedMs);
    smallest = { ...smallest, operations };
  }
  return { findings, conferences: partitions.size, undecided, ...(smallest ? { smallest } : {}) };
}

/** Every conference whose creation was acknowledged is in the last listing (I3); what became of it the model judges. */
function checkNothingLost(calls: readonly CallRecord[]): Finding[] {
  const last = calls.findLast((call) => call.call === "final" && call.outcome.kind === "ok");
  if (last?.call !== "final" || last.outcome.kind !== "ok") return [];
  const found = new Map(last.outcome.result.conferences.map((each) => [each.conferenceId, each]));
  const findings: Finding[] = [];
  for (const call of calls) {
    if (call.call !== "create" || call.outcome.kind !== "ok") continue;
    const { conferenceId } = call.args;
    const state = found.get(conferenceId)?.state;
    if (state === undefined)
      findings.push({ invariant: "I3", conferenceId, message: "it was created and is gone" });
    else if (state === "SCHEDULED" || state === "CLAIMED" || state === "FAILED")
      findings.push({ invariant: "I3", conferenceId, message: `it is ${state} when all is quiet` });
  }
  return findings;
}
