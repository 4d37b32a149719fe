import type { DetectionSettings } from "../../common/detection.ts";
import { highestRanked } from "../../common/rendezvous.ts";
import { Observation_Verdict } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Server } from "../../proto/gen/convoke/v1/server_pb.js";
import type { ObservationEntry, WithdrawalEntry } from "../view/observations.ts";
import type { DispatcherEntry, ServerEntry } from "../view/view.ts";

/** What verdicts are made from: the part of the view that tells of servers and their observers. */
export interface HealthView {
  readonly servers: {
    values(): Iterable<ServerEntry>;
    get(serverId: string): ServerEntry | undefined;
  };
  readonly dispatchers: {
    keys(): Iterable<string>;
    get(dispatcherId: string): Pick<DispatcherEntry, "lease"> | undefined;
  };
  readonly observations: {
    ofServer(serverId: string): ReadonlyMap<string, ObservationEntry>;
    withdrawalOf(dispatcherId: string): WithdrawalEntry | undefined;
  };
  /** The conferences that have a valid dispatch there. */
  hostingOf(serverId: string): { readonly conferences: { readonly size: number } };
  readonly registryRevision: bigint;
  readonly brake: { readonly releasedUntilMs: number };
}

/** What one observer says of a server. */
export interface Vote {
  readonly dispatcherId: string;
  readonly kind: "answers" | "refuses" | "is silent";
  /** Whether it has failed so often in a row that this observer calls it failed. */
  readonly isFailed: boolean;
  /** What the last probe said. */
  readonly detail: string;
  /** The revision of its key: while that stands, so does the vote. */
  readonly modRevision: bigint;
  /** The revision of the observer's withdrawal; 0n when it trusts what it sees. */
  readonly withdrawalRevision: bigint;
}

/** The votes on a server that count, in order of the observers' IDs. */
export interface Tally {
  /** How many observers it has, those included that report nothing. */
  readonly observers: number;
  /** More than half of them. Those that have withdrawn are still among them. */
  readonly majority: number;
  /**
   * They report any failure. Those that have withdrawn are among them: to suspect costs nobody a conference, and the brake
   * is to see what they see.
   */
  readonly failing: readonly Vote[];
  /** They call it failed. */
  readonly called: readonly Vote[];
  /** Those of them that may bring it down: who has withdrawn may not, until an operator has looked and released the brake. */
  readonly failed: readonly Vote[];
  /** They report that it answers; one that reports nothing of a server that is UP hears it, too. */
  readonly answering: readonly Vote[];
}

/** Who observes which server. */
export type Observers = (view: HealthView, serverId: string) => readonly string[];

/** The observers of servers, as dispatchers know them by the same rule; remembered as long as the registry stays. */
export function createObservers({ observers }: Pick<DetectionSettings, "observers">): Observers {
  let registryRevision = -1n;
  const known = new Map<string, readonly string[]>();
  return (view, serverId) => {
    if (view.registryRevision !== registryRevision) known.clear();
    registryRevision = view.registryRevision;
    const ids = known.get(serverId) ?? highestRanked(serverId, view.dispatchers.keys(), observers);
    known.set(serverId, ids);
    return ids;
  };
}

/**
 * Whether a report may count: it is of the server's present incarnation, by one of its observers, who reported it under the
 * registration that lives now.
 */
function isCurrent(
  view: HealthView,
  server: Server,
  observers: readonly string[],
  { observation, lease }: ObservationEntry,
): boolean {
  const { dispatcherId, incarnation } = observation;
  return (
    incarnation === server.incarnation &&
    observers.includes(dispatcherId) &&
    view.dispatchers.get(dispatcherId)?.lease === lease
  );
}

/** Whether a report counts in full: it may, and its observer has not withdrawn. */
export function counts(
  view: HealthView,
  server: Server,
  observers: readonly string[],
  entry: ObservationEntry,
): boolean {
  const { dispatcherId } = entry.observation;
  return (
    isCurrent(view, server, observers, entry) && view.observations.withdrawalOf(dispatcherId) === undefined
  );
}

/** Counts the votes on a server at an instant of the wall clock. */
export function tallyVotes(
  view: HealthView,
  server: Server,
  observers: readonly string[],
  settings: Pick<DetectionSettings, "refusals" | "timeouts">,
  nowMs: number,
): Tally {
  const isReleased = view.brake.releasedUntilMs > nowMs;
  const votes = [...view.observations.ofServer(server.serverId).values()]
    .filter((entry) => isCurrent(view, server, observers, entry))
    .map((entry) => voteOf(view, entry, settings))
    .sort((a, b) => (a.dispatcherId < b.dispatcherId ? -1 : 1));
  const failing = votes.filter(({ kind }) => kind !== "answers");
  const called = failing.filter(({ isFailed }) => isFailed);
  return {
    observers: observers.length,
    majority: Math.floor(observers.length / 2) + 1,
    failing,
    called,
    failed: called.filter(({ withdrawalRevision }) => isReleased || withdrawalRevision === 0n),
    answering: votes.filter(
      ({ kind, withdrawalRevision }) => kind === "answers" && withdrawalRevision === 0n,
    ),
  };
}

function voteOf(
  view: HealthView,
  { observation, modRevision }: ObservationEntry,
  { refusals, timeouts }: Pick<DetectionSettings, "refusals" | "timeouts">,
): Vote {
  const { dispatcherId, verdict, inARow, detail } = observation;
  const withdrawalRevision = view.observations.withdrawalOf(dispatcherId)?.modRevision ?? 0n;
  const vote = { dispatcherId, detail, modRevision, withdrawalRevision };
  if (verdict === Observation_Verdict.FAILED)
    return { ...vote, kind: "refuses", isFailed: inARow >= refusals };
  if (verdict === Observation_Verdict.TIMEOUT)
    return { ...vote, kind: "is silent", isFailed: inARow >= timeouts };
  return { ...vote, kind: "answers", isFailed: false };
}
