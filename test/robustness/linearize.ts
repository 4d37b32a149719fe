import { INITIAL, keyOf, type ModelOp, type ModelState, step } from "./conference-model.ts";

/** One operation on one conference, and when it can have taken effect. */
export interface Operation {
  readonly client: string;
  readonly op: ModelOp;
  readonly invokedMs: number;
  /** Infinity when nobody knows. */
  readonly returnedMs: number;
  /** False when it may also never have taken effect. */
  readonly required: boolean;
  /**
   * Served from a view: it may show an older state than that of its time, but none older than what its client had been
   * told before.
   */
  readonly fromView: boolean;
  /** Its answer told the client a revision, which later answers cannot be older than. */
  readonly tellsRevision: boolean;
}

export type Linearization = "linearizable" | "violation" | "undecided";

/** Beyond so many states a partition is given up; those of a run need a few hundred. */
const MAX_STATES = 300_000;

/**
 * Whether the operations can be put in one order that the model allows and that keeps to their times: each takes effect
 * between call and return. The search is that of Wing and Gong with Lowe's memory of what was tried, as in porcupine: a
 * set of operations done together with the state reached is visited once. Operations that only look are taken as soon as
 * they fit, which never spoils an order, since they change nothing.
 */
export function linearize(operations: readonly Operation[]): Linearization {
  const all = operations.map((operation, index) => ({
    operation,
    bit: 1n << BigInt(index),
    before: maskOf(operations, (other) => mustPrecede(other, operation)),
    // One that need not happen can no longer once something that began after its return has.
    beyond: maskOf(operations, (other) => !other.fromView && other.invokedMs > operation.returnedMs),
  }));
  const required = maskOf(operations, (operation) => operation.required);
  const visited = new Set<string>();
  const stack: { done: bigint; state: ModelState }[] = [{ done: 0n, state: INITIAL }];
  for (let at = stack.pop(); at; at = stack.pop()) {
    let { done } = at;
    const { state } = at;
    const mayNext = ({ bit, before, beyond }: (typeof all)[number]) =>
      (done & bit) === 0n && (before & ~done) === 0n && (beyond & done) === 0n;
    for (let again = true; again; ) {
      again = false;
      for (const next of all) {
        if (next.operation.op.kind !== "observe" || !mayNext(next) || !step(state, next.operation.op))
          continue;
        done |= next.bit;
        again = true;
      }
    }
    if ((required & ~done) === 0n) return "linearizable";
    const key = `${done.toString(36)} ${keyOf(state)}`;
    if (visited.has(key)) continue;
    visited.add(key);
    if (visited.size > MAX_STATES) return "undecided";
    for (const next of all.toReversed()) {
      if (next.operation.op.kind === "observe" || !mayNext(next)) continue;
      const reached = step(state, next.operation.op);
      if (reached) stack.push({ done: done | next.bit, state: reached });
    }
  }
  return "violation";
}

/** The fewest of the operations that are still a violation, as far as leaving out what only looks gets. */
export function shrink(operations: readonly Operation[]): readonly Operation[] {
  let left = operations;
  for (const candidate of operations) {
    if (candidate.op.kind !== "observe") continue;
    const without = left.filter((operation) => operation !== candidate);
    if (linearize(without) === "violation") left = without;
  }
  return left;
}

function mustPrecede(earlier: Operation, later: Operation): boolean {
  if (!earlier.required || earlier === later) return false;
  if (!later.fromView) return earlier.returnedMs < later.invokedMs;
  return earlier.client === later.client && earlier.tellsRevision && earlier.returnedMs <= later.invokedMs;
}

function maskOf(operations: readonly Operation[], test: (operation: Operation) => boolean): bigint {
  let mask = 0n;
  operations.forEach((operation, index) => {
    if (test(operation)) mask |= 1n << BigInt(index);
  });
  return mask;
}
