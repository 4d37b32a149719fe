import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { INITIAL, type ModelOp, type ModelState, step } from "./conference-model.ts";
import { linearize, type Operation, shrink } from "./linearize.ts";

const EPOCHS = ["d1@1", "d1@2", "d2@3"];

/** What somebody may do next, and what a reader sees now. */
function candidates(state: ModelState): ModelOp[] {
  const { epoch, dispatchEpoch, row } = state;
  return [
    { kind: "create" },
    ...EPOCHS.map((each): ModelOp => ({ kind: "claim", epoch: each, dispatchEpoch: dispatchEpoch + 1 })),
    { kind: "commit", epoch, dispatchEpoch, address: `a${dispatchEpoch}` },
    { kind: "release", epoch, dispatchEpoch },
    { kind: "cancel" },
    { kind: "end" },
    ...EPOCHS.map((each): ModelOp => ({ kind: "expire", epoch: each })),
    seen(state),
    seen(state),
    { kind: "observe", sees: "notActive" },
    { kind: "observe", sees: "active", dispatchEpoch: row.dispatchEpoch, address: row.address },
  ];
}

function seen({ phase, epoch, dispatchEpoch, row }: ModelState): ModelOp {
  if (phase === "claimed") return { kind: "observe", sees: "claimed", epoch, dispatchEpoch };
  if (phase === "active") return { kind: "observe", sees: "active", ...row };
  return { kind: "observe", sees: phase };
}

interface Choice {
  readonly pick: number;
  readonly client: number;
  readonly before: number;
  readonly after: number;
  readonly fate: number;
}

const choices = fc.array(
  fc.record<Choice>({
    pick: fc.nat(1_000),
    client: fc.nat(3),
    before: fc.nat(40),
    after: fc.nat(40),
    fate: fc.nat(9),
  }),
  { minLength: 1, maxLength: 25 },
);

/** Runs the model, each operation at its moment somewhere between a call and a return that overlap with others'. */
function play(made: readonly Choice[]): Operation[] {
  let state = INITIAL;
  const operations: Operation[] = [];
  const freeAt = new Map<number, number>();
  for (const [index, { pick, client, before, after, fate }] of made.entries()) {
    const atMs = (index + 1) * 10;
    const possible = candidates(state).filter((op) => step(state, op));
    const op = possible[pick % possible.length];
    // A client makes one call at a time.
    const invokedMs = Math.max(atMs - before, freeAt.get(client) ?? 0);
    if (!op || invokedMs > atMs) continue;
    freeAt.set(client, atMs + after + 0.5);
    const lost = fate === 0 && op.kind !== "observe";
    operations.push({
      ...{ client: `x${client}`, op, invokedMs },
      returnedMs: lost ? Number.POSITIVE_INFINITY : atMs + after,
      required: !lost,
      fromView: op.kind === "observe" && fate > 4,
      tellsRevision: !lost,
    });
    // Some of those whose answers were lost never landed.
    if (!lost || pick % 2 === 0) state = step(state, op) ?? state;
  }
  return operations;
}

describe("linearize", () => {
  it("accepts what the model did, however calls overlap and answers are lost", () => {
    fc.assert(
      fc.property(choices, (made) => {
        expect(linearize(play(made))).toBe("linearizable");
      }),
      { numRuns: 2_000 },
    );
  });

  it("accepts it in whatever order it is told", () => {
    fc.assert(
      fc.property(choices, fc.infiniteStream(fc.nat()), (made, keys) => {
        const shuffled = play(made)
          .map((operation) => ({ operation, key: keys.next().value }))
          .toSorted((a, b) => a.key - b.key);
        expect(linearize(shuffled.map(({ operation }) => operation))).toBe("linearizable");
      }),
    );
  });

  const ending: readonly (readonly [string, ModelOp])[] = [
    ["a row nobody committed", { kind: "observe", sees: "active", dispatchEpoch: 999, address: "b" }],
    ["a claim under no higher epoch", { kind: "claim", epoch: "d9@9", dispatchEpoch: 0 }],
    ["a commit without a claim", { kind: "commit", epoch: "d9@9", dispatchEpoch: 998, address: "c" }],
    ["a release without a claim", { kind: "release", epoch: "d9@9", dispatchEpoch: 998 }],
  ];
  it.each(ending)("rejects any history with %s at its end", (_, op) => {
    fc.assert(
      fc.property(choices, (made) => {
        const last = { client: "z", op, invokedMs: 10_000, returnedMs: 10_001, required: true };
        const history = [...play(made), { ...last, fromView: false, tellsRevision: true }];
        expect(linearize(history)).toBe("violation");
      }),
      { numRuns: 300 },
    );
  });

  it("rejects any history whose last acknowledged write is gone for a reader that comes after", () => {
    fc.assert(
      fc.property(choices, (made) => {
        const played = play(made).filter(({ required }) => required);
        const writes = played.filter(({ op }) => op.kind !== "observe" && op.kind !== "expire");
        const last = writes.at(-1);
        fc.pre(last !== undefined && last.op.kind !== "expire");
        // What it changed, seen by a strict reader as it was before.
        const before = writes.slice(0, -1).map(({ op }) => op);
        const history = sequential([...before, last?.op ?? { kind: "create" }]);
        const states = replay(before);
        fc.pre(states !== undefined && last !== undefined);
        const after = states && last ? step(states, last.op) : undefined;
        fc.pre(after !== undefined && after.phase !== states?.phase);
        const atMs = history.length * 10 + 10;
        const stale: Operation = {
          ...{ client: "z", op: seen(states ?? INITIAL), invokedMs: atMs, returnedMs: atMs + 1 },
          ...{ required: true, fromView: false, tellsRevision: true },
        };
        expect(linearize(history)).toBe("linearizable");
        expect(linearize([...history, stale])).toBe("violation");
        expect(shrink([...history, stale]).length).toBeLessThanOrEqual(history.length + 1);
      }),
      { numRuns: 500 },
    );
  });

  it("lets a view be behind, though not behind what its client was told", () => {
    const history = sequential([{ kind: "create" }, { kind: "cancel" }]);
    const stale: Operation = {
      ...{ client: "y", op: { kind: "observe", sees: "waiting" }, invokedMs: 100, returnedMs: 101 },
      ...{ required: true, fromView: true, tellsRevision: true },
    };
    expect(linearize([...history, stale])).toBe("linearizable");
    expect(linearize([...history, { ...stale, client: "x" }])).toBe("violation");
    expect(linearize([...history, { ...stale, fromView: false }])).toBe("violation");
  });
});

function replay(ops: readonly ModelOp[]): ModelState | undefined {
  return ops.reduce<ModelState | undefined>((state, op) => state && step(state, op), INITIAL);
}

function sequential(ops: readonly ModelOp[]): Operation[] {
  return ops.map((op, index) => ({
    ...{ client: "x", op, invokedMs: index * 10, returnedMs: index * 10 + 5 },
    ...{ required: true, fromView: false, tellsRevision: true },
  }));
}
