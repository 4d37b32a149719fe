import { StoreError, type StoreErrorCode } from "../store.ts";

/** What a failed call says about the call, its endpoint and our token. */
export interface Failure {
  /** What the caller of the store is told. */
  readonly error: StoreError;
  /** Whether another endpoint may do better. */
  readonly leave: boolean;
  /** Whether the connection itself is in doubt, so that the endpoint gets new ones. */
  readonly reconnect: boolean;
  /** Whether the call was refused for its token, before anything was done. */
  readonly renewToken: boolean;
}

interface Meaning {
  readonly code: StoreErrorCode;
  readonly leave?: boolean;
  readonly reconnect?: boolean;
  readonly renewToken?: boolean;
}

/**
 * etcd's errors, by the texts that its API defines (`api/v3rpc/rpctypes/error.go`): several share a gRPC code, and the
 * text alone tells them apart. `unavailable` stands for those that come before a request is proposed to the cluster;
 * those that may come after it are `unknown_outcome`.
 */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  "etcdserver: mvcc: required revision has been compacted": { code: "compacted" },
  "etcdserver: mvcc: required revision is a future revision": { code: "future_revision" },
  "etcdserver: mvcc: database space exceeded": { code: "no_space" },
  "etcdserver: requested lease not found": { code: "lease_not_found" },
  "etcdserver: too many operations in txn request": { code: "too_many_operations" },

  "etcdserver: key is not provided": { code: "invalid" },
  "etcdserver: duplicate key given in txn request": { code: "invalid" },
  "etcdserver: request is too large": { code: "invalid" },
  "etcdserver: too large lease TTL": { code: "invalid" },

  "etcdserver: no leader": { code: "unavailable", leave: true },
  "etcdserver: not capable": { code: "unavailable", leave: true },
  "etcdserver: unhealthy cluster": { code: "unavailable", leave: true },
  "etcdserver: rpc not supported for learner": { code: "unavailable", leave: true },
  "etcdserver: too many requests": { code: "unavailable" },
  "raft proposal dropped": { code: "unavailable", leave: true },

  "etcdserver: not leader": { code: "unknown_outcome", leave: true },
  "etcdserver: leader changed": { code: "unknown_outcome", leave: true },
  "etcdserver: server stopped": { code: "unknown_outcome", leave: true, reconnect: true },
  "etcdserver: request timed out": { code: "unknown_outcome", leave: true },
  "etcdserver: request timed out, possibly due to previous leader failure": {
    code: "unknown_outcome",
    leave: true,
  },
  "etcdserver: request timed out, possibly due to connection lost": { code: "unknown_outcome", leave: true },
  "etcdserver: request timed out, waiting for the applied index took too long": {
    code: "unknown_outcome",
    leave: true,
  },
  "etcdserver: corrupt cluster": { code: "unknown_outcome", leave: true },

  "etcdserver: invalid auth token": { code: "unavailable", renewToken: true },
  "etcdserver: revision of auth store is old": { code: "unavailable", renewToken: true },
  "etcdserver: user name is empty": { code: "unavailable", renewToken: true },
  "etcdserver: permission denied": { code: "unavailable" },
  "etcdserver: authentication failed, invalid user ID or password": { code: "unavailable" },
  "etcdserver: authentication is not enabled": { code: "unavailable" },

  // gRPC's own, for what we cancelled.
  "Cancelled on client": { code: "unknown_outcome" },
};

/** A request that exceeds even the transport's limit is refused by gRPC, in a text that counts bytes. */
const TOO_LARGE = "grpc: received message larger than max";

/** What is left when the text is none of etcd's: the transport failed, or something between us and etcd answered. */
const TRANSPORT: Meaning = { code: "unknown_outcome", leave: true, reconnect: true };

/** gRPC's codes for what was refused before it was looked at, when the text is unknown. */
const REFUSED_CODES: Readonly<Record<number, Meaning>> = {
  3: { code: "invalid" },
  7: { code: "unavailable" },
  12: { code: "unavailable", leave: true },
  16: { code: "unavailable", renewToken: true },
};

/** Why we ended a call ourselves. */
export class CallEnded extends Error {
  override readonly name = "CallEnded";
  readonly reason: "deadline" | "aborted" | "closed";
  constructor(reason: CallEnded["reason"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** No connection stands, so that nothing was sent. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** What is known of the call that failed. */
export interface CallState {
  /** Whether it may have reached the server. */
  readonly sent: boolean;
  /** Whether it could change anything. One that could not has no unknown outcome: it is `unavailable`. */
  readonly changes: boolean;
  readonly endpoint: string;
}

/** Judges an error of a call, or the reason that etcd gives for cancelling a watch. */
export function judgeFailure(cause: unknown, { sent, changes, endpoint }: CallState): Failure {
  const text = textOf(cause);
  const meaning = meaningOf(cause, text);
  const code =
    meaning.code === "unknown_outcome" && !(sent && changes) ? ("unavailable" as const) : meaning.code;
  return {
    error:
      cause instanceof StoreError ? cause : new StoreError(code, `etcd at ${endpoint}: ${text}`, { cause }),
    leave: meaning.leave ?? false,
    reconnect: meaning.reconnect ?? false,
    renewToken: meaning.renewToken ?? false,
  };
}

function meaningOf(cause: unknown, text: string): Meaning {
  if (cause instanceof StoreError) return { code: cause.code };
  if (cause instanceof CallEnded) {
    // A call that its caller gave up says nothing about the endpoint; one that ran out of time does.
    return cause.reason === "deadline" ? TRANSPORT : { code: "unknown_outcome" };
  }
  if (cause instanceof Unreachable) return { code: "unavailable", leave: true, reconnect: true };
  const known = Object.hasOwn(MEANINGS, text) ? MEANINGS[text] : undefined;
  if (text.startsWith(TOO_LARGE)) return { code: "invalid" };
  return known ?? REFUSED_CODES[codeOf(cause)] ?? TRANSPORT;
}

/** The reasons of cancelled watches carry their code as text before the message. */
const CODE_PREFIX = /^rpc error: code = \w+ desc = /;

function textOf(cause: unknown): string {
  if (typeof cause === "string") return cause.replace(CODE_PREFIX, "");
  if (!(cause instanceof Error)) return String(cause);
  if ("details" in cause && typeof cause.details === "string" && cause.details !== "") return cause.details;
  return cause.message;
}

function codeOf(cause: unknown): number {
  return cause instanceof Error && "code" in cause && typeof cause.code === "number" ? cause.code : -1;
}
