import type { BrakeCount } from "./brake.ts";
import type { Tally, Vote } from "./votes.ts";

/** What is said of a server's state, for people. Made from nothing but votes, so that replicas that know the same say the same. */

/** More observers than this say the same. */
const MAX_VOTES_SHOWN = 5;

/** A detail is for recognising what happened; the log of the observer has all of it. */
const MAX_DETAIL_LENGTH = 100;

export function failuresMessage({ observers, majority, failing, failed }: Tally): string {
  const isFailed = failed.length >= majority;
  const votes = isFailed ? failed : failing;
  const does = isFailed ? "call it failed" : "report failures";
  return `${votes.length} of ${counted(observers)} ${does}: ${listed(votes)}`;
}

export function restartingMessage(deadlineMs: number, tally: Tally): string {
  return `its agent said that it may restart until ${instant(deadlineMs)}; ${failuresMessage(tally)}`;
}

export function heldMessage({ failing, servers, allowed }: BrakeCount): string {
  const fail = `${failing} of ${servers} servers fail, ${allowed} may`;
  return `held by the brake: ${fail}; release it with \`convoke release-brake\` if they are really dead`;
}

export function dampenedMessage(failures: number, holdUntilMs: number): string {
  const times = failures > 1 ? `${failures} times` : "once";
  return `it is back, and waits until ${instant(holdUntilMs)} because it was declared DOWN ${times} lately`;
}

export function recoveredMessage({ observers, failing, answering, majority }: Tally): string {
  if (answering.length >= majority) return `${answering.length} of ${counted(observers)} hear it`;
  if (failing.length === 0) return `none of ${counted(observers)} reports failures any more`;
  return `only ${failing.length} of ${counted(observers)} still reports failures: ${listed(failing)}`;
}

function counted(observers: number): string {
  return observers === 1 ? "1 observer" : `${observers} observers`;
}

function listed(votes: readonly Vote[]): string {
  const shown = votes.slice(0, MAX_VOTES_SHOWN).map(({ dispatcherId, kind, detail }) => {
    const text = detail || (kind === "refuses" ? "refused" : "no answer");
    return `${dispatcherId} ${text.length > MAX_DETAIL_LENGTH ? `${text.slice(0, MAX_DETAIL_LENGTH).toWellFormed()}…` : text}`;
  });
  const left = votes.length - shown.length;
  return left > 0 ? `${shown.join(", ")} and ${left} more` : shown.join(", ");
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}
