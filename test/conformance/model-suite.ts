import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Compare, KeyValue, Operation, Store, TxnRequest } from "../../server/store/store.ts";
import { bytes, currentRevision, eventsOf, text, watchTo } from "./harness.ts";
import type { Subject } from "./store-suite.ts";

/** Few keys, so that they meet often; one that sorts differently in UTF-16. */
const KEYS = ["a", "ab", "b", "\uffee", "\u{1f600}"];

/** Revisions to compare with count back from the newest, as fast-check cannot know them beforehand. */
interface Step {
  readonly compare: readonly { readonly key: string; readonly create: boolean; readonly back: number }[];
  readonly then: readonly StepOperation[];
  readonly else: readonly StepOperation[];
}
type StepOperation = { readonly key: string; readonly kind: "put" | "delete" | "get" | "list" };

const keyArbitrary = fc.constantFrom(...KEYS);
const branchArbitrary = fc.uniqueArray(
  fc.record({ key: keyArbitrary, kind: fc.constantFrom("put", "put", "delete", "get", "list") }),
  {
    selector: ({ key, kind }) => (kind === "put" || kind === "delete" ? key : `${kind} ${key}`),
    maxLength: 6,
  },
);
const stepArbitrary = fc.record({
  compare: fc.array(
    fc.record({ key: keyArbitrary, create: fc.boolean(), back: fc.integer({ min: -1, max: 3 }) }),
    {
      maxLength: 2,
    },
  ),
  then: branchArbitrary,
  else: branchArbitrary,
});

type State = ReadonlyMap<string, KeyValue>;

const inByteOrder = (kvs: Iterable<KeyValue>) =>
  [...kvs].sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));

const readable = (kvs: Iterable<KeyValue>) => [...kvs].map((kv) => ({ ...kv, value: text(kv) }));

/** The plainest store there can be: a map, copied at each revision. */
function createModel(revision: bigint) {
  const history = new Map<bigint, State>([[revision, new Map()]]);
  let newest = revision;
  const current = (): State => history.get(newest) ?? new Map();
  return {
    history,
    get revision() {
      return newest;
    },
    txn(request: TxnRequest) {
      const succeeded = request.compare.every((compare) => {
        const kv = current().get(compare.key);
        return "createRevision" in compare
          ? (kv?.createRevision ?? 0n) === compare.createRevision
          : (kv?.modRevision ?? 0n) === compare.modRevision;
      });
      const next = new Map(current());
      const gets: KeyValue[][] = [];
      let wrote = false;
      for (const operation of (succeeded ? request.then : request.else) ?? []) {
        if ("get" in operation) {
          const { get } = operation;
          const matches = (kv: KeyValue) =>
            "key" in get ? kv.key === get.key : kv.key.startsWith(get.prefix);
          gets.push(inByteOrder(next.values()).filter(matches));
        } else if ("put" in operation) {
          const { key, value } = operation.put;
          const modRevision = newest + 1n;
          const before = next.get(key);
          const createRevision = before?.createRevision ?? modRevision;
          next.set(key, {
            key,
            value,
            createRevision,
            modRevision,
            version: (before?.version ?? 0n) + 1n,
            lease: 0n,
          });
          wrote = true;
        } else if (next.delete(operation.delete.key)) wrote = true;
      }
      if (wrote) history.set(++newest, next);
      return { succeeded, revision: newest, gets: gets.map(readable) };
    },
  };
}

function toRequest(step: Step, prefix: string, newest: bigint, index: number): TxnRequest {
  const toOperation = ({ key, kind }: StepOperation): Operation => {
    if (kind === "put") return { put: { key: prefix + key, value: bytes(`${index}`) } };
    if (kind === "delete") return { delete: { key: prefix + key } };
    return { get: kind === "get" ? { key: prefix + key } : { prefix: prefix + key } };
  };
  const compare = step.compare.map(({ key, create, back }): Compare => {
    const revision = back < 0 ? 0n : newest - BigInt(back);
    return create
      ? { key: prefix + key, createRevision: revision }
      : { key: prefix + key, modRevision: revision };
  });
  return { compare, then: step.then.map(toOperation), else: step.else.map(toOperation) };
}

/** I7: the state that the watch tells is the state that is read, at every revision. */
async function checkReplay(store: Store, prefix: string, history: ReadonlyMap<bigint, State>, base: bigint) {
  const newest = base + BigInt(history.size - 1);
  const events = newest > base ? eventsOf(await watchTo(store, prefix, base + 1n, newest)) : [];
  const replayed = new Map<string, KeyValue>();
  let next = 0;
  for (const [revision, state] of history) {
    for (let event = events[next]; event && event.kv.modRevision <= revision; event = events[++next]) {
      if (event.type === "put") replayed.set(event.kv.key, event.kv);
      else replayed.delete(event.kv.key);
    }
    const expected = readable(inByteOrder(state.values()));
    expect(readable(inByteOrder(replayed.values()))).toEqual(expected);
    expect(readable((await store.range({ prefix, revision })).kvs)).toEqual(expected);
  }
  expect(next).toBe(events.length);
}

export function describeModel(subject: Subject): void {
  describe("model", () => {
    it("I7: does what a plain map does, and its watch tells the same story", async () => {
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(stepArbitrary, { minLength: 1, maxLength: 25 }), async (steps) => {
          const { store } = subject;
          const prefix = `run-${run++}/`;
          const base = await currentRevision(store);
          const model = createModel(base);
          for (const [index, step] of steps.entries()) {
            const request = toRequest(step, prefix, model.revision, index);
            const result = await store.txn(request);
            expect({ ...result, gets: result.gets.map(readable) }).toEqual(model.txn(request));
          }
          await checkReplay(store, prefix, model.history, base);
        }),
        { numRuns: 40 },
      );
    });

    it("I7: gives the same results when the transactions are sent at once", async () => {
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(stepArbitrary, { minLength: 2, maxLength: 25 }), async (steps) => {
          const { store } = subject;
          const prefix = `run-${run++}/`;
          const base = await currentRevision(store);
          const model = createModel(base);
          const requests = steps.map((step, index) => {
            const request = toRequest(step, prefix, base, index);
            // Each writes something, whatever it compares, so that its revision is its own and tells its place.
            const mark: Operation = { put: { key: `${prefix}mark-${index}`, value: bytes("") } };
            return { ...request, then: [...request.then, mark], else: [...(request.else ?? []), mark] };
          });
          const results = await Promise.all(
            requests.map(async (request) => ({ request, result: await store.txn(request) })),
          );
          results.sort((a, b) => Number(a.result.revision - b.result.revision));
          for (const { request, result } of results) {
            expect({ ...result, gets: result.gets.map(readable) }).toEqual(model.txn(request));
          }
          await checkReplay(store, prefix, model.history, base);
        }),
        { numRuns: 20 },
      );
    });
  });
}
