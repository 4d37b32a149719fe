/**
 * What clients have seen of a run. Times are milliseconds of one monotonic clock; revisions and epochs are numbers, since
 * a run does not get near 2^53.
 */
export interface History {
  readonly calls: readonly CallRecord[];
  readonly watches: readonly WatchRecord[];
}

export type Outcome<R> =
  | { readonly kind: "ok"; readonly result: R }
  /** Refused, with the reason of the contract. */
  | { readonly kind: "failed"; readonly reason: string }
  /** Nobody told whether it was carried out, and it may still be. */
  | { readonly kind: "unknown"; readonly reason: string };

interface Call<N extends string, A, R> {
  readonly client: string;
  /** Whether the client sends each call once. One that sends again elsewhere may be refused what its first sending did. */
  readonly once: boolean;
  readonly call: N;
  readonly args: A;
  readonly invokedMs: number;
  readonly returnedMs: number;
  readonly outcome: Outcome<R>;
}

export interface OfConference {
  readonly conferenceId: string;
}

export interface OfEpoch {
  readonly dispatcherId: string;
  readonly epoch: number;
}

export interface Row extends OfConference {
  /** The dispatch epoch. */
  readonly epoch: number;
  readonly address: string;
}

export interface SeenClaim extends OfEpoch {
  readonly dispatchEpoch: number;
}

export interface SeenConference extends OfConference {
  readonly state: "SCHEDULED" | "CLAIMED" | "ACTIVE" | "ENDED" | "CANCELLED" | "FAILED";
  readonly claim?: SeenClaim;
  /** The void claim before; tells of claims whose answers were lost. */
  readonly superseded?: SeenClaim;
  readonly row?: Row;
}

export interface TaskItem extends OfConference {
  readonly dispatchEpoch: number;
}

export interface CommitItem extends TaskItem {
  readonly address: string;
}

/** Per item the reason of its refusal, undefined when it was done; in the order asked. */
export type ItemResults = readonly (string | undefined)[];

export interface Shares {
  readonly total: number;
  readonly revision: number;
  readonly dispatcherCount: number;
  readonly rank: number;
  readonly share: number;
}

export type CreateCall = Call<"create", OfConference, null>;
export type EndCall = Call<"end" | "cancel", OfConference, null>;
export type GetCall = Call<"get", OfConference, SeenConference>;
export type GetDispatchCall = Call<"getDispatch", OfConference, Row>;
export type RegisterCall = Call<
  "register",
  { readonly dispatcherId: string },
  { readonly epoch: number; readonly ttlMs: number }
>;
export type EpochCall = Call<"heartbeat" | "deregister", OfEpoch, null>;
/** What was received stands in the arguments, since a stream that breaks has told something too. */
export type FetchCall = Call<
  "fetch",
  OfEpoch & { readonly tasks: readonly (TaskItem & { readonly receivedMs: number })[] },
  null
>;
export type CommitCall = Call<"commit", OfEpoch & { readonly items: readonly CommitItem[] }, ItemResults>;
export type ReleaseCall = Call<"release", OfEpoch & { readonly items: readonly TaskItem[] }, ItemResults>;
export type QueryCall = Call<"query", { readonly dispatcherId: string }, Shares>;
export type ListDispatchesCall = Call<
  "listDispatches",
  null,
  { readonly revision: number; readonly rows: readonly Row[] }
>;
/** The last reading, when nothing is under way and the reader has seen everything. */
export type FinalCall = Call<"final", null, { readonly conferences: readonly SeenConference[] }>;

export type CallRecord =
  | CreateCall
  | EndCall
  | GetCall
  | GetDispatchCall
  | RegisterCall
  | EpochCall
  | FetchCall
  | CommitCall
  | ReleaseCall
  | QueryCall
  | ListDispatchesCall
  | FinalCall;

/** One message of a watch of the dispatch table, or that it had to begin again. */
export type WatchRecord =
  | {
      readonly watcher: string;
      readonly kind: "events";
      /** Everything up to this revision has been told; 0 while the first listing goes on. */
      readonly revision: number;
      readonly events: readonly WatchedRow[];
    }
  | { readonly watcher: string; readonly kind: "restart" };

export interface WatchedRow extends Row {
  readonly type: "PUT" | "DELETE";
  /** A row that was there when the watch began, rather than a change. */
  readonly existing: boolean;
}

/** What an epoch of a dispatcher is known by. */
export function epochKey({ dispatcherId, epoch }: OfEpoch): string {
  return `${dispatcherId}@${epoch}`;
}
