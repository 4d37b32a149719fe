import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { timestampFromMs } from "../../common/time.ts";
import {
  ConferenceRecordSchema,
  DispatcherRecordSchema,
  ReservationRecordSchema,
  RoundRecordSchema,
  ServerRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { dueConferences, roundAccounts } from "../dispatch/round.ts";
import { createKeys } from "../store/keys.ts";
import type { KeyValue, StoreEvent } from "../store/store.ts";
import type { Change } from "./change-log.ts";
import { isHeld, isPlaced, toConference } from "./conference-entry.ts";
import type { DispatchChange } from "./dispatch-change.ts";
import { View } from "./view.ts";

const keys = createKeys();
const START_MS = Date.UTC(2030, 0, 1);

/** What a store would say: keys with their revisions, one change a revision. */
class Model {
  revision = 1n;
  readonly kvs = new Map<string, KeyValue>();
  readonly history: StoreEvent[] = [];

  put(key: string, value: Uint8Array) {
    this.revision += 1n;
    const before = this.kvs.get(key);
    const kv: KeyValue = {
      key,
      value,
      createRevision: before?.createRevision ?? this.revision,
      modRevision: this.revision,
      version: (before?.version ?? 0n) + 1n,
      lease: 7n,
    };
    this.kvs.set(key, kv);
    this.history.push({ type: "put", kv });
  }

  delete(key: string) {
    if (!this.kvs.delete(key)) return;
    this.revision += 1n;
    const kv = {
      key,
      value: new Uint8Array(),
      createRevision: 0n,
      modRevision: this.revision,
      version: 0n,
      lease: 0n,
    };
    this.history.push({ type: "delete", kv });
  }

  epochOf(dispatcher: number) {
    return this.kvs.get(keys.dispatcher(`d${dispatcher}`))?.modRevision;
  }

  putDispatcher(dispatcher: number) {
    const record = create(DispatcherRecordSchema, {
      dispatcher: { dispatcherId: `d${dispatcher}`, weight: 1 },
    });
    this.put(keys.dispatcher(`d${dispatcher}`), toBinary(DispatcherRecordSchema, record));
  }

  putServer(server: number, incarnation: number, state: Server_State, isDrained = false) {
    const record = create(ServerRecordSchema, {
      server: {
        serverId: `s${server}`,
        capacity: 20,
        incarnation: BigInt(incarnation),
        state,
        ...(isDrained ? { cordoned: true, drain: { conferenceCount: 1 } } : {}),
      },
    });
    this.put(keys.server(`s${server}`), toBinary(ServerRecordSchema, record));
  }

  putRound() {
    const members = [0, 1, 2].flatMap((dispatcher) => {
      const epoch = this.epochOf(dispatcher);
      return epoch === undefined ? [] : [{ dispatcherId: `d${dispatcher}`, epoch }];
    });
    this.put(
      keys.round,
      toBinary(RoundRecordSchema, create(RoundRecordSchema, { members, windowMs: 60_000n })),
    );
  }

  putConference(conference: number, init: Parameters<typeof create<typeof ConferenceRecordSchema>>[1]) {
    const record = create(ConferenceRecordSchema, init);
    this.put(keys.conference(`c${conference}`), toBinary(ConferenceRecordSchema, record));
  }
}

type Step = (model: Model) => void;

const small = fc.nat({ max: 2 });
const conferenceStep = fc
  .record({
    id: fc.nat({ max: 7 }),
    state: fc.constantFrom(
      Conference_State.SCHEDULED,
      Conference_State.CLAIMED,
      Conference_State.CLAIMED,
      Conference_State.ACTIVE,
      Conference_State.ACTIVE,
      Conference_State.ENDED,
      Conference_State.CANCELLED,
      Conference_State.FAILED,
    ),
    weight: fc.integer({ min: 1, max: 9 }),
    startInMs: fc.integer({ min: -5_000, max: 100_000 }),
    dispatcher: small,
    stale: fc.boolean(),
    inRound: fc.boolean(),
    isMove: fc.boolean(),
    server: small,
    incarnation: fc.integer({ min: 1, max: 3 }),
    retryInMs: fc.constantFrom(0, 0, 1_000),
  })
  .map(
    ({
      id,
      state,
      weight,
      startInMs,
      dispatcher,
      stale,
      inRound,
      isMove,
      server,
      incarnation,
      retryInMs,
    }): Step =>
      (model) => {
        const epoch = (model.epochOf(dispatcher) ?? 1n) - (stale ? 1n : 0n);
        const round = inRound ? (model.kvs.get(keys.round)?.modRevision ?? 0n) : 0n;
        const held = state === Conference_State.CLAIMED || state === Conference_State.ACTIVE;
        model.putConference(id, {
          retryTimeMs: retryInMs > 0 ? BigInt(START_MS + retryInMs) : 0n,
          conference: {
            conferenceId: `c${id}`,
            state,
            weight,
            startTime: timestampFromMs(START_MS + startInMs),
            endTime: timestampFromMs(START_MS + startInMs + 10_000),
            updateTime: timestampFromMs(START_MS),
            ...(held ? { claim: { dispatcherId: `d${dispatcher}`, dispatcherEpoch: epoch, round } } : {}),
            ...(state === Conference_State.ACTIVE
              ? {
                  dispatch: {
                    conferenceId: `c${id}`,
                    serverId: `s${server}`,
                    incarnation: BigInt(incarnation),
                    // The claim is made by this write; one that is newer than the dispatch is to move it.
                    epoch: isMove ? 1n : model.revision + 1n,
                  },
                }
              : {}),
          },
        });
      },
  );
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: conferenceStep },
  {
    weight: 2,
    arbitrary: small.map(
      (id): Step =>
        (model) =>
          model.putDispatcher(id),
    ),
  },
  {
    weight: 1,
    arbitrary: small.map(
      (id): Step =>
        (model) =>
          model.delete(keys.dispatcher(`d${id}`)),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        small,
        fc.integer({ min: 1, max: 3 }),
        fc.constantFrom(Server_State.UP, Server_State.UP, Server_State.SUSPECT, Server_State.DOWN),
        fc.boolean(),
      )
      .map(
        ([id, incarnation, state, isDrained]): Step =>
          (model) =>
            model.putServer(id, incarnation, state, isDrained),
      ),
  },
  {
    weight: 1,
    arbitrary: small.map(
      (id): Step =>
        (model) =>
          model.delete(keys.server(`s${id}`)),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((model) => model.putRound()) },
  {
    weight: 1,
    arbitrary: small.map(
      (id): Step =>
        (model) => {
          const value = toBinary(ReservationRecordSchema, create(ReservationRecordSchema));
          model.put(keys.reservation(`s${id}`), value);
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.nat({ max: 7 }).map(
      (id): Step =>
        (model) =>
          model.delete(keys.conference(`c${id}`)),
    ),
  },
);

const newView = () => new View(keys, createFakeClock(START_MS));

/** Everything about a view that callers can see. */
function pictureOf(view: View) {
  const ids = [0, 1, 2];
  const idsOf = (entries: Iterable<{ readonly id: string }>) => [...entries].map(({ id }) => id).sort();
  return {
    revision: view.revision,
    round: view.round,
    dispatchers: [...view.dispatchers.entries()],
    servers: [...view.servers.entries()],
    conferences: [...view.conferences.values()].map((entry) => ({
      ...toConference(entry),
      status: entry.status,
    })),
    waiting: [...view.waiting.values()].map(({ id }) => id),
    unfinished: [...view.unfinished.values()].map(({ id }) => id),
    finished: [...view.finished.values()].map(({ id }) => id),
    claims: ids.map((id) => idsOf(view.claimsOf(`d${id}`))),
    taken: ids.map((id) => view.takenBy(`d${id}`)),
    hosted: ids.map((id) => idsOf(view.hostingOf(`s${id}`).conferences)),
    named: ids.map((id) => idsOf(view.hostingOf(`s${id}`).named)),
    units: ids.map((id) => view.hostingOf(`s${id}`).reservedUnits),
    freeUnits: view.freeUnits,
    movesUnderWay: view.movesUnderWay,
    heldUnits: view.heldUnits,
    draining: [...view.draining].sort(),
    reservations: ids.map((id) => view.reservationRevision(`s${id}`)),
    due: [...dueConferences(view, START_MS, 60_000)].map(({ id }) => id),
    accounts: roundAccounts(view, START_MS, 60_000),
  };
}

/** The same, counted from the conferences alone. */
function recount(view: View) {
  const entries = [...view.conferences.values()];
  const ids = [0, 1, 2];
  return {
    units: ids.map((id) =>
      entries
        .filter((entry) => isPlaced(entry) && entry.conference.dispatch?.serverId === `s${id}`)
        .reduce((sum, { conference }) => sum + conference.weight, 0),
    ),
    taken: ids.map(
      (id) =>
        entries.filter(
          ({ status, claim }) =>
            (status === "claimed" || status === "active" || status === "moving") &&
            claim?.dispatcherId === `d${id}` &&
            claim.round === view.round?.revision,
        ).length,
    ),
    claims: ids.map((id) =>
      entries
        .filter((entry) => isHeld(entry) && entry.claim?.dispatcherId === `d${id}`)
        .map(({ id }) => id)
        .sort(),
    ),
    heldUnits: entries.filter(isHeld).reduce((sum, { conference }) => sum + conference.weight, 0),
    movesUnderWay: entries.filter((entry) => isHeld(entry) && entry.conference.dispatch).length,
    freeUnits: [...view.servers.values()]
      .filter(({ server }) => server.state === Server_State.UP && !server.cordoned)
      .reduce((sum, { server }) => {
        const hosted = entries.filter(
          (entry) => isPlaced(entry) && entry.conference.dispatch?.serverId === server.serverId,
        );
        const reserved = hosted.reduce((units, { conference }) => units + conference.weight, 0);
        return sum + Math.max(0, server.capacity - reserved);
      }, 0),
  };
}

/** What a watcher of the table ends up with. */
async function tableAfter(changes: AsyncGenerator<Change<DispatchChange>>, revision: bigint) {
  const table = new Map<string, unknown>();
  for await (const change of changes) {
    for (const { type, dispatch } of change.events) {
      if (type === EventType.PUT) table.set(dispatch.conferenceId, dispatch);
      else {
        expect(table.has(dispatch.conferenceId), `${dispatch.conferenceId} ends once`).toBe(true);
        table.delete(dispatch.conferenceId);
      }
    }
    if (change.revision >= revision) break;
  }
  return table;
}

describe("a view", () => {
  it("is the same whether it watched from the first revision, in what parts ever, or was listed (I7)", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 60 }),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 }),
        fc.nat({ max: 59 }),
        async (steps, batches, listAt) => {
          const model = new Model();
          const watched = newView();
          watched.load([], 1n);
          const relisted = newView();
          relisted.load([], 1n);
          let applied = 0;
          const pending = [...steps.entries()];
          for (let turn = 0; pending.length > 0; turn++) {
            for (const [index, run] of pending.splice(0, batches[turn % batches.length])) {
              run(model);
              if (index === listAt) relisted.load([...model.kvs.values()], model.revision);
            }
            watched.apply(model.history.slice(applied), model.revision);
            applied = model.history.length;
            const { units, taken, claims, movesUnderWay, heldUnits, freeUnits } = pictureOf(watched);
            expect({ units, taken, claims, movesUnderWay, heldUnits, freeUnits }).toEqual(recount(watched));
          }
          // Old news are passed over.
          watched.apply(model.history, model.revision);
          const listed = newView();
          listed.load([...model.kvs.values()], model.revision);
          relisted.load([...model.kvs.values()], model.revision);
          expect(pictureOf(watched)).toEqual(pictureOf(listed));
          expect(pictureOf(relisted)).toEqual(pictureOf(listed));

          const rows = new Map(
            [...listed.conferences.values()]
              .filter(isPlaced)
              .map(({ id, conference }) => [id, conference.dispatch]),
          );
          for (const view of [watched, relisted]) {
            const changes = view.dispatchLog.follow(1n, new AbortController().signal);
            expect(await tableAfter(changes, model.revision)).toEqual(rows);
          }
          const { members, total } = roundAccounts(listed, START_MS, 60_000);
          if (members.length > 0) {
            const shares = members.map(({ share }) => share);
            expect(shares.reduce((a, b) => a + b, 0)).toBe(total);
            expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it("voids claims when their registration goes, and when it is replaced", () => {
    for (const end of [
      (model: Model) => model.delete(keys.dispatcher("d0")),
      (model: Model) => model.putDispatcher(0),
    ]) {
      const model = new Model();
      model.putDispatcher(0);
      model.putConference(1, {
        conference: {
          state: Conference_State.CLAIMED,
          claim: { dispatcherId: "d0", dispatcherEpoch: model.epochOf(0) ?? 0n },
        },
      });
      const view = newView();
      view.apply(model.history, model.revision);
      expect(view.conferences.get("c1")?.status).toBe("claimed");
      end(model);
      view.apply(model.history, model.revision);
      expect(view.conferences.get("c1")?.status).toBe("waiting");
      expect(view.claimsOf("d0").size).toBe(0);
      expect(view.waiting.size).toBe(1);
    }
  });

  it("tells whoever resumes in the middle of a batch no more than what comes after (I7)", async () => {
    const model = new Model();
    model.putServer(0, 1, Server_State.UP);
    const dispatch = { serverId: "s0", incarnation: 1n };
    for (const id of [1, 2, 3])
      model.putConference(id, { conference: { state: Conference_State.ACTIVE, dispatch } });
    const view = newView();
    const listed = model.revision - 3n;
    view.apply(model.history, model.revision);
    for (const resumed of [listed, listed + 1n, listed + 2n]) {
      const told: bigint[] = [];
      const leave = new AbortController();
      for await (const { revision, events } of view.dispatchLog.follow(resumed, leave.signal)) {
        for (const _ of events) told.push(revision);
        if (revision === model.revision) leave.abort();
      }
      expect(told).toEqual([1n, 2n, 3n].map((n) => listed + n).filter((revision) => revision > resumed));
    }
  });

  it("passes over keys that are not its own", () => {
    const view = newView();
    const model = new Model();
    model.put("other/dispatchers/d1", new Uint8Array([1]));
    model.put("convoke/unknown/x", new Uint8Array([1]));
    model.put("convoke/constructor/x", new Uint8Array([1]));
    view.apply(model.history, model.revision);
    expect(view.revision).toBe(model.revision);
    expect(view.conferences.size).toBe(0);
  });

  it("pulses once for each batch that brings something new", async () => {
    const view = newView();
    const model = new Model();
    model.putDispatcher(1);
    const { signal } = new AbortController();
    const first = view.changed.next(signal);
    view.apply(model.history, model.revision);
    expect(await first).toBe("pulse");
    const second = view.changed.next(signal);
    view.apply(model.history, model.revision);
    expect(await Promise.race([second, "none"])).toBe("none");
  });
});
