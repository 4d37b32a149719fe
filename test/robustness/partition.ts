import type { ModelOp, Observation } from "./conference-model.ts";
import type { EpochLife } from "./epochs.ts";
import {
  type CallRecord,
  type CommitItem,
  epochKey,
  type OfEpoch,
  type Row,
  type SeenConference,
  type TaskItem,
} from "./history.ts";
import type { Operation } from "./linearize.ts";

/** The operations on each conference that the calls amount to. */
export function partition(
  calls: readonly CallRecord[],
  lives: ReadonlyMap<string, EpochLife>,
): ReadonlyMap<string, readonly Operation[]> {
  const partitions = new Map<string, Operation[]>();
  const claims = new Claims();
  const add = (conferenceId: string, operation: Operation) => {
    const operations = partitions.get(conferenceId);
    if (operations) operations.push(operation);
    else partitions.set(conferenceId, [operation]);
  };
  for (const call of calls) for (const [id, operation] of operationsOf(call, claims)) add(id, operation);

  for (const { conferenceId, epoch, dispatchEpoch, client, receivedMs } of claims.all()) {
    const life = lives.get(epoch);
    add(conferenceId, {
      client,
      op: { kind: "claim", epoch, dispatchEpoch },
      // An answer that was lost may have claimed it long before somebody was told.
      invokedMs: life?.firstFetchMs ?? 0,
      returnedMs: receivedMs,
      required: receivedMs < Number.POSITIVE_INFINITY,
      fromView: false,
      tellsRevision: true,
    });
  }
  for (const [conferenceId, epochs] of claims.epochsOf()) {
    for (const epoch of epochs) {
      const life = lives.get(epoch);
      add(conferenceId, {
        client: "",
        op: { kind: "expire", epoch },
        invokedMs: life?.endsAfterMs ?? 0,
        returnedMs: life?.knownOverMs ?? Number.POSITIVE_INFINITY,
        required: life !== undefined && life.knownOverMs < Number.POSITIVE_INFINITY,
        fromView: false,
        tellsRevision: false,
      });
    }
  }
  return new Map(
    [...partitions].map(([id, operations]) => [id, withoutRepetitions(withRepeatedCreations(operations))]),
  );
}

/**
 * A creation that begins after another was acknowledged finds the conference, and is answered from the replica's view as
 * a read is: it tells its client that there is one, and no more of it.
 */
function withRepeatedCreations(operations: readonly Operation[]): readonly Operation[] {
  const creations = operations.filter(({ op, required }) => op.kind === "create" && required);
  const acknowledgedMs = Math.min(...creations.map(({ returnedMs }) => returnedMs));
  return operations.map((operation) =>
    operation.op.kind === "create" && operation.required && operation.invokedMs > acknowledgedMs
      ? { ...operation, tellsRevision: false }
      : operation,
  );
}

/**
 * Each operation can change a conference once at most, so of those that are the same and may have taken effect at any
 * time, the first stands for all. Clients that ask a dead replica again and again would make the search endless otherwise.
 */
function withoutRepetitions(operations: readonly Operation[]): readonly Operation[] {
  const first = new Map<string, Operation>();
  for (const operation of operations) {
    if (operation.required) continue;
    const key = JSON.stringify(operation.op);
    const known = first.get(key);
    if (!known || operation.invokedMs < known.invokedMs) first.set(key, operation);
  }
  const kept = new Set(first.values());
  return operations.filter((operation) => operation.required || kept.has(operation));
}

interface Claim extends TaskItem {
  readonly epoch: string;
  readonly client: string;
  /** When somebody was first told; Infinity for one that is only known from what it left behind. */
  readonly receivedMs: number;
}

/** All claims that anybody has seen, each once. */
class Claims {
  readonly #claims = new Map<string, Claim>();

  note(claim: Claim) {
    const key = `${claim.conferenceId} ${claim.epoch} ${claim.dispatchEpoch}`;
    const known = this.#claims.get(key);
    if (!known || claim.receivedMs < known.receivedMs) this.#claims.set(key, claim);
  }

  all(): Iterable<Claim> {
    return this.#claims.values();
  }

  epochsOf(): ReadonlyMap<string, ReadonlySet<string>> {
    const epochs = new Map<string, Set<string>>();
    for (const { conferenceId, epoch } of this.#claims.values()) {
      const set = epochs.get(conferenceId) ?? new Set();
      epochs.set(conferenceId, set.add(epoch));
    }
    return epochs;
  }
}

function* operationsOf(call: CallRecord, claims: Claims): Generator<readonly [string, Operation]> {
  const { outcome } = call;
  switch (call.call) {
    case "create":
      yield* mutation(call, call.args.conferenceId, { kind: "create" });
      return;
    case "cancel":
    case "end":
      yield* mutation(call, call.args.conferenceId, { kind: call.call });
      return;
    case "commit":
      for (const [index, item] of call.args.items.entries())
        yield* itemOperations(call, { kind: "commit", ...claimOf(call.args, item) }, item, index);
      return;
    case "release":
      for (const [index, item] of call.args.items.entries())
        yield* itemOperations(call, { kind: "release", ...claimOf(call.args, item) }, item, index);
      return;
    case "fetch": {
      const epoch = epochKey(call.args);
      for (const { conferenceId, dispatchEpoch, receivedMs } of call.args.tasks) {
        claims.note({ conferenceId, dispatchEpoch, epoch, client: call.client, receivedMs });
        const op: ModelOp = { kind: "observe", sees: "claimed", epoch, dispatchEpoch };
        yield [conferenceId, { ...look(call, op), returnedMs: receivedMs, fromView: false }];
      }
      return;
    }
    case "get":
      if (outcome.kind === "ok") {
        noteClaims(call.outcome.kind === "ok" ? call.outcome.result : undefined, claims);
        if (call.outcome.kind === "ok") yield* seen(call, call.outcome.result);
      } else if (outcome.kind === "failed" && outcome.reason === "CONFERENCE_NOT_FOUND")
        yield [call.args.conferenceId, look(call, { kind: "observe", sees: "absent" })];
      return;
    case "getDispatch":
      if (call.outcome.kind === "ok") yield seenRow(call, call.outcome.result);
      else if (outcome.kind === "failed" && outcome.reason === "DISPATCH_NOT_FOUND")
        yield [call.args.conferenceId, look(call, { kind: "observe", sees: "notActive" })];
      else if (outcome.kind === "failed" && outcome.reason === "CONFERENCE_NOT_FOUND")
        yield [call.args.conferenceId, look(call, { kind: "observe", sees: "absent" })];
      return;
    case "listDispatches":
      if (call.outcome.kind === "ok") for (const row of call.outcome.result.rows) yield seenRow(call, row);
      return;
    case "final":
      if (call.outcome.kind !== "ok") return;
      for (const conference of call.outcome.result.conferences) {
        noteClaims(conference, claims);
        for (const [id, operation] of seen(call, conference)) yield [id, { ...operation, fromView: false }];
      }
      return;
    default:
      return;
  }
}

/** What a refusal of a call says of the conference. */
const REFUSALS: Readonly<Record<string, Observation>> = {
  "end STATE_CONFLICT": { sees: "notEndable" },
  "cancel STATE_CONFLICT": { sees: "ended" },
  "end CONFERENCE_NOT_FOUND": { sees: "absent" },
  "cancel CONFERENCE_NOT_FOUND": { sees: "absent" },
};

function* mutation(
  call: CallRecord,
  conferenceId: string,
  op: ModelOp,
): Generator<readonly [string, Operation]> {
  const { outcome } = call;
  if (outcome.kind === "ok") yield [conferenceId, effect(call, op)];
  if (outcome.kind === "unknown") yield [conferenceId, perhaps(call, op)];
  if (outcome.kind !== "failed") return;
  if (!call.once) yield [conferenceId, perhaps(call, op)];
  const observation = REFUSALS[`${call.call} ${outcome.reason}`];
  if (observation)
    yield [conferenceId, { ...look(call, { kind: "observe", ...observation }), tellsRevision: false }];
}

function* itemOperations(
  call: CallRecord & { call: "commit" | "release" },
  op: ModelOp & { readonly epoch: string; readonly dispatchEpoch: number },
  { conferenceId }: TaskItem,
  index: number,
): Generator<readonly [string, Operation]> {
  const { outcome } = call;
  const refusal = outcome.kind === "ok" ? outcome.result[index] : undefined;
  if (outcome.kind === "ok" && refusal === undefined) yield [conferenceId, effect(call, op)];
  // Refused items too: CLAIM_LOST says that the claim is gone, and an earlier try of the same call may have used it up.
  // Only a call refused as a whole, and sent once, has done nothing.
  else if (outcome.kind !== "failed" || !call.once) yield [conferenceId, perhaps(call, op)];
  if (refusal !== "CLAIM_LOST") return;
  const { epoch, dispatchEpoch } = op;
  yield [conferenceId, look(call, { kind: "observe", sees: "claimLost", epoch, dispatchEpoch })];
}

function claimOf<I extends TaskItem | CommitItem>(ofEpoch: OfEpoch, item: I) {
  return { ...item, epoch: epochKey(ofEpoch) };
}

function effect({ client, invokedMs, returnedMs }: CallRecord, op: ModelOp): Operation {
  return { client, op, invokedMs, returnedMs, required: true, fromView: false, tellsRevision: true };
}

/** A first sending may still be on its way when the second has been answered. */
function perhaps(call: CallRecord, op: ModelOp): Operation {
  return {
    ...effect(call, op),
    returnedMs: Number.POSITIVE_INFINITY,
    required: false,
    tellsRevision: false,
  };
}

function look({ client, invokedMs, returnedMs }: CallRecord, op: ModelOp): Operation {
  return { client, op, invokedMs, returnedMs, required: true, fromView: true, tellsRevision: true };
}

function noteClaims(conference: SeenConference | undefined, claims: Claims) {
  for (const claim of [conference?.claim, conference?.superseded]) {
    if (!conference || !claim) continue;
    claims.note({
      conferenceId: conference.conferenceId,
      dispatchEpoch: claim.dispatchEpoch,
      epoch: epochKey(claim),
      client: "",
      receivedMs: Number.POSITIVE_INFINITY,
    });
  }
}

function* seen(call: CallRecord, conference: SeenConference): Generator<readonly [string, Operation]> {
  const { conferenceId, state, claim, row } = conference;
  if (state === "ACTIVE") {
    if (row) yield seenRow(call, row);
    return;
  }
  const observation: Observation =
    state === "CLAIMED" && claim
      ? { sees: "claimed", epoch: epochKey(claim), dispatchEpoch: claim.dispatchEpoch }
      : state === "ENDED"
        ? { sees: "ended" }
        : state === "CANCELLED"
          ? { sees: "cancelled" }
          : { sees: "waiting" };
  yield [conferenceId, look(call, { kind: "observe", ...observation })];
}

function seenRow(call: CallRecord, { conferenceId, epoch, address }: Row): readonly [string, Operation] {
  return [conferenceId, look(call, { kind: "observe", sees: "active", dispatchEpoch: epoch, address })];
}
