import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { KeyValue } from "../store.ts";
import {
  decodeCurrent,
  decodeNumber,
  decodeRecord,
  encodeCurrent,
  encodeNumber,
  encodeRecord,
} from "./encoding.ts";

const number = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const key = fc.string({ minLength: 1, unit: "grapheme" });
const state = fc.record({
  value: fc.uint8Array({ maxLength: 300 }),
  createRevision: number,
  modRevision: number,
  version: number,
  lease: number,
});

describe("encoding", () => {
  it("keeps a current key, whatever buffer it lies in", () => {
    fc.assert(
      fc.property(key, state, fc.nat(9), (name, rest, offset) => {
        const kv: KeyValue = { key: name, ...rest };
        const encoded = encodeCurrent(kv);
        const elsewhere = Buffer.concat([Buffer.alloc(offset), encoded]).subarray(offset);
        expect(decodeCurrent(name, elsewhere)).toEqual(kv);
      }),
    );
  });

  it("keeps a log record, and leaves out keys without the prefix", () => {
    const change = fc.record({ key, before: fc.option(state), after: fc.option(state) });
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 8 }),
        number,
        fc.string({ maxLength: 1 }),
        (list, revision, prefix) => {
          const changes = list.map(({ key, before, after }) => ({
            key,
            before: before ? { key, ...before } : undefined,
            after: after ? { key, ...after } : undefined,
          }));
          expect(decodeRecord(revision, encodeRecord(changes), prefix)).toEqual({
            revision,
            changes: changes.filter((change) => change.key.startsWith(prefix)),
          });
        },
      ),
    );
  });

  it("orders numbers as bytes", () => {
    fc.assert(
      fc.property(number, number, (a, b) => {
        expect(decodeNumber(encodeNumber(a))).toBe(a);
        expect(Math.sign(Buffer.compare(encodeNumber(a), encodeNumber(b)))).toBe(a < b ? -1 : a > b ? 1 : 0);
      }),
    );
  });
});
