import type { IEvent } from "etcd3";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { WatchBatch } from "../store.ts";
import { createWatchAssembler, type WatchAssembler } from "./watch-assembler.ts";
import { answersInLine } from "./watch-progress.ts";

function put(key: string, revision: number): IEvent {
  const kv = {
    key: Buffer.from(key),
    value: Buffer.from("v"),
    create_revision: "1",
    mod_revision: String(revision),
    version: "2",
    lease: "3",
  };
  return { type: "Put", kv, prev_kv: kv };
}

/** As etcd sends it: everything but key and revision is left at its default. */
function remove(key: string, revision: number): IEvent {
  const { kv } = put(key, revision);
  const gone = { ...kv, value: Buffer.alloc(0), create_revision: "0", version: "0", lease: "0" };
  return { type: "Delete", kv: gone, prev_kv: gone };
}

const show = (batch: WatchBatch | undefined) =>
  batch && [Number(batch.revision), ...batch.events.map(({ kv }) => `${kv.key}@${kv.modRevision}`)];

const whole = (assembler: WatchAssembler, ...events: IEvent[]) =>
  show(assembler.take({ events, fragment: false }));
const part = (assembler: WatchAssembler, ...events: IEvent[]) =>
  show(assembler.take({ events, fragment: true }));

describe("watch assembler", () => {
  it("goes on behind the last event, whatever the store's revision is", () => {
    const assembler = createWatchAssembler(5n);
    expect(whole(assembler, put("a", 5), put("b", 7))).toEqual([7, "a@5", "b@7"]);
    expect(assembler.next).toBe(8n);
  });

  it("holds the last revision of a fragment until it is complete, and no more than that", () => {
    const assembler = createWatchAssembler(1n);
    expect(part(assembler, put("a", 1), put("b", 2), put("c", 2))).toEqual([1, "a@1"]);
    expect(part(assembler, put("d", 2))).toBeUndefined();
    expect(assembler.next).toBe(2n);
    expect(part(assembler, put("e", 2), put("f", 3))).toEqual([2, "b@2", "c@2", "d@2", "e@2"]);
    expect(whole(assembler, put("g", 3))).toEqual([3, "f@3", "g@3"]);
  });

  it("asks for a revision again of which a break left only a part", () => {
    const assembler = createWatchAssembler(1n);
    part(assembler, put("a", 1), put("b", 2));
    assembler.restart();
    expect(assembler.next).toBe(2n);
    expect(whole(assembler, put("b", 2), put("c", 2))).toEqual([2, "b@2", "c@2"]);
  });

  it("passes over what it has given out or was not asked for", () => {
    const assembler = createWatchAssembler(3n);
    expect(whole(assembler, put("a", 2), put("b", 3))).toEqual([3, "b@3"]);
    expect(whole(assembler, put("b", 3))).toBeUndefined();
  });

  it("takes progress that is news, and none while a revision is incomplete", () => {
    const assembler = createWatchAssembler(3n);
    expect(assembler.progress(2n)).toBeUndefined();
    expect(assembler.progress(9n)).toEqual({ revision: 9n, events: [] });
    expect(assembler.next).toBe(10n);
    expect(assembler.progress(9n)).toBeUndefined();
    part(assembler, put("a", 10));
    expect(assembler.progress(12n)).toBeUndefined();
    expect(assembler.next).toBe(10n);
  });

  it("refuses events out of order instead of losing them", () => {
    const assembler = createWatchAssembler(1n);
    expect(() => whole(assembler, put("a", 5), put("b", 4))).toThrow("out of order");
  });

  it("describes a delete by key and revision", () => {
    const assembler = createWatchAssembler(1n);
    const batch = assembler.take({ events: [remove("a", 4)], fragment: false });
    expect(batch?.events).toEqual([
      {
        type: "delete",
        kv: {
          key: "a",
          value: new Uint8Array(),
          createRevision: 0n,
          modRevision: 4n,
          version: 0n,
          lease: 0n,
        },
      },
    ]);
  });

  it("I7: gives every event out once, in order, each revision whole, however responses and breaks fall", () => {
    const history = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 12 });
    const cuts = fc.array(fc.record({ size: fc.integer({ min: 1, max: 8 }), broken: fc.boolean() }), {
      minLength: 1,
      maxLength: 40,
    });
    fc.assert(
      fc.property(history, cuts, (widths, pieces) => {
        const all = widths.flatMap((width, index) =>
          Array.from({ length: width }, (_, key) => put(`k${key}`, index + 1)),
        );
        const assembler = createWatchAssembler(1n);
        const batches: WatchBatch[] = [];
        for (let turn = 0; assembler.next <= BigInt(widths.length); turn++) {
          // A stream starts where the assembler says, and may break behind any of its fragments but the first ones.
          assembler.restart();
          let rest = all.filter(({ kv }) => BigInt(kv.mod_revision) >= assembler.next);
          for (let index = turn; rest.length > 0; index++) {
            const { size, broken } = pieces[index % pieces.length] ?? { size: 1, broken: false };
            const events = rest.slice(0, size);
            rest = rest.slice(size);
            const batch = assembler.take({ events, fragment: rest.length > 0 });
            if (batch) batches.push(batch);
            if (broken && index < turn + pieces.length && turn < 50) break;
          }
        }
        const given = batches.flatMap((batch) => batch.events.map(({ kv }) => `${kv.key}@${kv.modRevision}`));
        expect(given).toEqual(all.map(({ kv }) => `${kv.key}@${kv.mod_revision}`));
        for (const [index, { revision, events }] of batches.entries()) {
          expect(events.at(-1)?.kv.modRevision).toBe(revision);
          expect(events[0]?.kv.modRevision).toBe((batches[index - 1]?.revision ?? 0n) + 1n);
        }
      }),
    );
  });
});

describe("answers in line", () => {
  it.each([
    ["3.4.23", false],
    ["3.4.30", false],
    ["3.4.31", true],
    ["3.5.0-rc.1", false],
    ["3.5.12", false],
    ["3.5.13+git", true],
    ["3.6.0", true],
    ["4.0.0", true],
    ["not a version", false],
  ])("%s: %s", (version, expected) => {
    expect(answersInLine(version)).toBe(expected);
  });
});
