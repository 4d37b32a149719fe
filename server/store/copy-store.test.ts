import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  ConferenceRecordSchema,
  DispatcherRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createFaultyStore } from "../../test/support/faulty-store.ts";
import { createFeed } from "../view/feed.ts";
import { View } from "../view/view.ts";
import { copyStore, type StoreCopyOptions } from "./copy-store.ts";
import { createEmbeddedStore } from "./embedded/index.ts";
import { createKeys, DEFAULT_PREFIX } from "./keys.ts";
import type { OpenedStore } from "./open-store.ts";
import { openAtOrigin } from "./origin.ts";
import type { Store, StoreError, WatchBatch } from "./store.ts";

const logger = pino({ level: "silent" });
const keys = createKeys();
const ATTEMPT = "the only one";

let directory: string;
let stack: AsyncDisposableStack;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "convoke-copy-"));
  stack = new AsyncDisposableStack();
  stack.defer(() => rm(directory, { recursive: true, force: true }));
});
afterEach(() => stack.disposeAsync());

/** A store, and the engine below it, with which a test can do what a user cannot. */
interface Opened extends OpenedStore {
  readonly engine: Store;
}

async function open(name: string): Promise<Opened> {
  const engine = await createEmbeddedStore({ directory: join(directory, name) });
  stack.defer(() => engine.close());
  return { engine, store: openAtOrigin(engine, keys), prefix: DEFAULT_PREFIX };
}

/** The same data, opened as a new process would. */
const reopened = ({ engine }: Opened): Opened => ({
  engine,
  store: openAtOrigin(engine, keys),
  prefix: DEFAULT_PREFIX,
});

const put = (store: Store, key: string, value: Uint8Array, lease?: bigint) =>
  store.txn({ compare: [], then: [{ put: { key, value, ...(lease === undefined ? {} : { lease }) } }] });

const bytes = (text: string) => new TextEncoder().encode(text);

function conference(id: string, claim?: { dispatchEpoch: bigint; dispatcherEpoch: bigint }) {
  const record = {
    conference: {
      conferenceId: id,
      state: claim ? Conference_State.CLAIMED : Conference_State.SCHEDULED,
      ...(claim ? { claim: { dispatcherId: "d1", ...claim } } : {}),
    },
    requestId: `request of ${id}`,
  };
  return toBinary(ConferenceRecordSchema, create(ConferenceRecordSchema, record));
}

/** A deployment with one of everything, 1,000 conferences, and a claim whose epoch is its key's revision. */
async function fillSource(): Promise<{ source: Opened; claimedAt: bigint; registeredAt: bigint }> {
  const source = await open("source");
  const { store } = source;
  const { leaseId } = await store.leaseGrant(60_000);
  const registration = create(DispatcherRecordSchema, { dispatcher: { dispatcherId: "d1" } });
  const registered = await put(
    store,
    keys.dispatcher("d1"),
    toBinary(DispatcherRecordSchema, registration),
    leaseId,
  );
  await put(store, keys.server("s1"), bytes(""));
  await put(store, keys.reservation("s1"), bytes("mark"));
  await put(store, keys.round, bytes(""));
  await put(store, `${keys.prefix}of-a-later-release/x`, bytes("?"));
  await put(store, "not-ours", bytes("?"));
  const ids = Array.from({ length: 1_000 }, (_, index) => `c${index}`);
  await Promise.all(ids.map((id) => put(store, keys.conference(id), conference(id))));
  const dispatcherEpoch = registered.revision;
  await put(
    store,
    keys.conference("explicit"),
    conference("explicit", { dispatchEpoch: 7n, dispatcherEpoch }),
  );
  const claim = conference("claimed", { dispatchEpoch: 0n, dispatcherEpoch });
  const { revision } = await put(store, keys.conference("claimed"), claim);
  return { source, claimedAt: revision, registeredAt: dispatcherEpoch };
}

const optionsOf = (source: OpenedStore, target: OpenedStore): StoreCopyOptions => ({
  source,
  target,
  sourceName: "embedded:source",
  attemptId: ATTEMPT,
  nowMs: 0,
});

const never = new AbortController().signal;

async function dump(store: Store): Promise<Map<string, string>> {
  const { kvs } = await store.range({ prefix: "" });
  return new Map(kvs.map(({ key, value }) => [key, Buffer.from(value).toString("hex")]));
}

async function errorOf(promise: Promise<unknown>): Promise<StoreError> {
  return promise.then(
    () => Promise.reject(new Error("it succeeded")),
    (err) => err,
  );
}

describe("copyStore", () => {
  test("copies everything but what is on leases and the round, and says what it copied", async () => {
    const { source, claimedAt } = await fillSource();
    const target = await open("target");
    const copy = await copyStore(optionsOf(source, target), never);
    expect(copy).toMatchObject({
      revision: claimedAt,
      conferences: 1_002,
      servers: 1,
      others: 2,
      claimsMadeExplicit: 1,
      leasedKeysLeft: 1,
    });
    const expected = await dump(source.store);
    for (const key of ["not-ours", keys.round, keys.dispatcher("d1")])
      expect(expected.delete(key)).toBe(true);
    const found = await dump(target.store);
    expect(found.delete(keys.origin)).toBe(true);
    const key = keys.conference("claimed");
    const claimed = fromBinary(ConferenceRecordSchema, Buffer.from(found.get(key) ?? "", "hex"));
    expect(claimed.conference?.claim?.dispatchEpoch).toBe(claimedAt);
    found.delete(key);
    expected.delete(key);
    expect(found).toEqual(expected);
  });

  test("a second copy of the copy has the same checksum, and goes on from the copy's revision", async () => {
    const { source } = await fillSource();
    const target = await open("target");
    const first = await copyStore(optionsOf(source, target), never);
    const second = await copyStore(optionsOf(reopened(target), await open("third")), never);
    expect(second.sha256).toBe(first.sha256);
    expect(second.claimsMadeExplicit).toBe(0);
    expect(second.revision).toBeGreaterThan(first.revision);
  });

  test("every revision of the target is above every one of the source, and places from before are lost", async () => {
    const { source, claimedAt, registeredAt } = await fillSource();
    const target = await open("target");
    await copyStore(optionsOf(source, target), never);
    const { store } = reopened(target);
    const { revision, kvs } = await store.range({ prefix: "" });
    expect(revision).toBeGreaterThan(claimedAt);
    for (const kv of kvs) expect(kv.createRevision).toBeGreaterThan(claimedAt);
    // A process that still holds the old registration is fenced, whatever is registered now.
    const { leaseId } = await store.leaseGrant(60_000);
    const { revision: epoch } = await put(store, keys.dispatcher("d1"), bytes(""), leaseId);
    expect(epoch).toBeGreaterThan(registeredAt);
    const compare = [{ key: keys.dispatcher("d1"), createRevision: registeredAt }];
    expect((await store.txn({ compare, then: [] })).succeeded).toBe(false);
    const range = store.range({ key: keys.origin, revision: claimedAt });
    expect(await errorOf(range)).toMatchObject({ code: "compacted" });
    const watch = store
      .watch({ prefix: keys.prefix, fromRevision: claimedAt }, never)
      [Symbol.asyncIterator]();
    expect(await errorOf(watch.next())).toMatchObject({ code: "compacted", compactRevision: claimedAt + 1n });
  });

  test("a claim that was copied is void, and the next one has a higher epoch", async () => {
    const { source, claimedAt } = await fillSource();
    const target = await open("target");
    await copyStore(optionsOf(source, target), never);
    const { store } = reopened(target);
    const clock = createFakeClock();
    const view = new View(keys, clock);
    const feed = createFeed({ store, keys, view, clock, logger });
    const controller = new AbortController();
    const running = feed.run(controller.signal);
    await feed.ready(AbortSignal.timeout(30_000));
    const before = view.conferences.get("claimed");
    expect(before).toMatchObject({ status: "waiting", claim: { dispatchEpoch: claimedAt } });
    const claim = conference("claimed", { dispatchEpoch: 0n, dispatcherEpoch: 9n });
    const { revision } = await put(store, keys.conference("claimed"), claim);
    await feed.reached(revision, AbortSignal.timeout(30_000));
    expect(view.conferences.get("claimed")?.claim?.dispatchEpoch).toBe(revision);
    expect(revision).toBeGreaterThan(claimedAt);
    controller.abort();
    await running;
  });

  test("refuses an empty source and a target with any key under its prefix, and writes nothing", async () => {
    const { source } = await fillSource();
    const target = await open("target");
    expect(await errorOf(copyStore(optionsOf(target, source), never))).toMatchObject({ code: "refused" });
    await put(target.store, `${DEFAULT_PREFIX}eu/x`, bytes(""));
    const before = await dump(target.store);
    expect(await errorOf(copyStore(optionsOf(source, target), never))).toMatchObject({ code: "refused" });
    expect(await dump(target.store)).toEqual(before);
  });

  test("refuses a source of another engine while a dispatcher is registered there", async () => {
    const { source } = await fillSource();
    const shared = { ...source, store: { ...source.store, engine: "etcd" } };
    const copying = copyStore(optionsOf(shared, await open("target")), never);
    expect(await errorOf(copying)).toMatchObject({
      code: "refused",
      message: expect.stringContaining("dispatcher d1 is registered"),
    });
  });

  test("lost replies do no harm", async () => {
    const { source } = await fillSource();
    const target = await open("target");
    const faulty = createFaultyStore(target.store);
    faulty.faultOf = (_request, attempt) => (attempt % 5 === 0 ? "reply lost" : "none");
    const copying = copyStore(optionsOf(source, { ...target, store: faulty.store }), never);
    await expect(copying).resolves.toMatchObject({ conferences: 1_002 });
  });

  test.each([
    ["the target fails midway", 4],
    ["the target fails at the last transaction", 10],
  ])("when %s, it is left incomplete and cannot be read or served from", async (_what, failing) => {
    const { source } = await fillSource();
    const target = await open("target");
    const faulty = createFaultyStore(target.store);
    faulty.faultOf = (_request, attempt) => (attempt >= failing ? "unavailable" : "none");
    const copying = copyStore(optionsOf(source, { ...target, store: faulty.store }), never);
    expect(await errorOf(copying)).toMatchObject({ code: "incomplete" });
    const { store } = reopened(target);
    expect(await errorOf(store.range({ key: "x" }))).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("embedded:source"),
    });
    expect(await errorOf(store.txn({ compare: [], then: [] }))).toMatchObject({ code: "invalid" });
    const clock = createFakeClock();
    const feed = createFeed({ store, keys, view: new View(keys, clock), clock, logger });
    expect(await errorOf(feed.run(never))).toMatchObject({ code: "invalid" });
  });

  test.each([
    ["a changed source", "source", keys.conference("c1")],
    ["a new key in the source", "source", keys.conference("zz")],
    ["a new key in the target", "target", keys.conference("zz")],
    ["a changed target", "target", keys.conference("c1")],
  ] as const)("%s makes the copy incomplete", async (_what, side, key) => {
    const { source } = await fillSource();
    const target = await open("target");
    let done = false;
    // With the first batch: the engine carries out transactions in the order they come in, so before the last batch.
    const onProgress = async () => {
      if (done) return;
      done = true;
      await put((side === "source" ? source : target).store, key, conference("changed"));
    };
    const copying = copyStore({ ...optionsOf(source, target), onProgress: () => void onProgress() }, never);
    expect(await errorOf(copying)).toMatchObject({ code: "incomplete" });
    expect(done).toBe(true);
    expect(await errorOf(reopened(target).store.range({ key: "x" }))).toMatchObject({ code: "invalid" });
  });

  test("an interruption leaves the target incomplete", async () => {
    const { source } = await fillSource();
    const target = await open("target");
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error("interrupted"));
    const copying = copyStore({ ...optionsOf(source, target), onProgress }, controller.signal);
    expect(await errorOf(copying)).toMatchObject({ code: "incomplete" });
    expect(await errorOf(reopened(target).store.range({ key: "x" }))).toMatchObject({ code: "invalid" });
  });
});

describe("a store that somebody has open when a copy to it begins", () => {
  test("ends its watch, and begins none after it", async () => {
    const { source } = await fillSource();
    const target = await open("target");
    const { store } = reopened(target);
    const { revision } = await store.range({ prefix: keys.prefix });
    const request = { prefix: keys.prefix, fromRevision: revision + 1n };
    const seen: WatchBatch[] = [];
    const watching = (async () => {
      for await (const batch of store.watch(request, AbortSignal.timeout(30_000))) seen.push(batch);
    })();
    const ended = errorOf(watching);
    await copyStore(optionsOf(source, target), never);
    expect(await ended).toMatchObject({ code: "invalid" });
    expect(seen.flatMap(({ events }) => events)).toEqual([]);
    const again = store.watch({ ...request, fromRevision: revision + 3n }, never)[Symbol.asyncIterator]();
    expect(await errorOf(again.next())).toMatchObject({ code: "invalid" });
  });
});
