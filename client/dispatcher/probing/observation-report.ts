import { Observation_Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { isFailing, type Vote } from "./server-observer.ts";

/** A vote of one life of a server, as it goes into a report. */
export interface ReportedVote extends Vote {
  readonly incarnation: bigint;
  /** The spell of the server's state that it was made for. */
  readonly spell: number;
}

/** What the control plane has of a server from this observer. */
export type Written =
  /** Nothing. */
  | undefined
  /** A report was sent and not answered: this, or what was there before. */
  | "unknown"
  | ReportedVote;

/** A server as its votes are reported. */
export interface ReportSubject {
  readonly vote: Vote | undefined;
  /** As the control plane sees it. */
  readonly incarnation: bigint;
  readonly state: Server_State;
  /** Another number each time that the state changes. */
  readonly spell: number;
}

/**
 * What is to be reported of a server that is observed; undefined when the control plane has it right. Of a server that is
 * UP it is silence that says OK: reported is what fails, and OK only to take that back. Of a server that is not UP, OK is a
 * vote for its return, told anew in each state: one that reached the control plane while the server was UP was not kept.
 */
export function dueReport(subject: ReportSubject, written: Written): ReportedVote | undefined {
  const { vote, incarnation, state, spell } = subject;
  if (!vote) return undefined;
  const mayFail = written === "unknown" || isFailing(written);
  if (vote.verdict === Observation_Verdict.OK && state === Server_State.UP && !mayFail) return undefined;
  return unlessWritten({ ...vote, incarnation, spell }, written);
}

/**
 * What is to be reported of a server that is observed no more. Its votes do not count now, and would count again as they
 * are if the observer came back to it, so what is left is a doubt: it can neither bring the server down nor back up.
 */
export function farewellReport(incarnation: bigint, written: Written): ReportedVote | undefined {
  return written === undefined ? undefined : unlessWritten({ ...FAREWELL, incarnation, spell: 0 }, written);
}

const FAREWELL: Vote = {
  verdict: Observation_Verdict.TIMEOUT,
  inARow: 1,
  detail: "no longer observed by this dispatcher",
};

function unlessWritten(due: ReportedVote, written: Written): ReportedVote | undefined {
  return written !== undefined && written !== "unknown" && sameVote(due, written) ? undefined : due;
}

function sameVote(due: ReportedVote, written: ReportedVote): boolean {
  if (written.incarnation !== due.incarnation || written.verdict !== due.verdict) return false;
  // Of OK the number does not matter, of failures the state.
  return due.verdict === Observation_Verdict.OK ? written.spell === due.spell : written.inARow === due.inARow;
}
