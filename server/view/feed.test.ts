import { getEventListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ServerRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { passUntil } from "../../test/support/control-plane.ts";
import { eventually } from "../../test/support/eventually.ts";
import { createFakeClock, type FakeClock } from "../../test/support/fake-clock.ts";
import { createFaultyStore, type FaultyStore } from "../../test/support/faulty-store.ts";
import { createEmbeddedStore } from "../store/embedded/index.ts";
import { createKeys } from "../store/keys.ts";
import { type Store, StoreError } from "../store/store.ts";
import { createFeed, type Feed } from "./feed.ts";
import { View } from "./view.ts";

const keys = createKeys();
const logger = pino({ level: "silent" });

describe("a feed", () => {
  let directory: string;
  let clock: FakeClock;
  let inner: Store;
  let faulty: FaultyStore;
  let view: View;
  let feed: Feed;
  let controller: AbortController;
  let running: Promise<void>;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-feed-"));
    clock = createFakeClock();
    inner = await createEmbeddedStore({ directory, clock });
    faulty = createFaultyStore(inner);
    view = new View(keys, clock);
    feed = createFeed({ store: faulty.store, keys, view, clock, logger });
    controller = new AbortController();
    running = Promise.resolve();
  });
  afterEach(async () => {
    controller.abort();
    await running;
    expect(feed.fresh).toBe(false);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
    await inner.close();
    expect(clock.pending).toBe(0);
    await rm(directory, { recursive: true, force: true });
  });

  const run = () => {
    running = feed.run(controller.signal);
  };
  const { signal } = new AbortController();
  const putServer = async (serverId: string) => {
    const value = toBinary(ServerRecordSchema, create(ServerRecordSchema, { server: { serverId } }));
    return (await inner.txn({ compare: [], then: [{ put: { key: keys.server(serverId), value } }] }))
      .revision;
  };
  const servers = () => [...view.servers.keys()];

  it("is ready once the view is complete and follows, also of an empty store", async () => {
    const ready = feed.ready(signal);
    run();
    await ready;
    expect(feed.fresh).toBe(true);
    expect(view.revision).toBe(1n);
  });

  it("lists in pages, and then follows", async () => {
    for (let index = 0; index < 1_005; index++) await putServer(`s${index}`);
    run();
    await feed.ready(signal);
    expect(servers()).toHaveLength(1_005);
    await feed.reached(await putServer("new"), signal);
    expect(servers()).toHaveLength(1_006);
  });

  it("keeps the last view while the store is lost, and goes on from where it was", async () => {
    await putServer("a");
    run();
    await feed.ready(signal);
    faulty.lose();
    await eventually(() => feed.fresh).toBe(false);
    const revision = await putServer("b");
    await clock.advance(5_000);
    expect(servers()).toEqual(["a"]);
    const changes = view.serverLog.follow(view.revision, signal);
    expect((await changes.next()).value).toMatchObject({ events: [] });
    faulty.restore();
    await passUntil(clock, feed.reached(revision, signal), 500);
    expect(servers()).toEqual(["a", "b"]);
    expect((await changes.next()).value?.events).toHaveLength(1);
  });

  it("is ready when the store is back, though nothing has changed", async () => {
    run();
    await feed.ready(signal);
    faulty.lose();
    await eventually(() => feed.fresh).toBe(false);
    const ready = feed.ready(signal);
    faulty.restore();
    await passUntil(clock, ready, 500);
    expect(feed.fresh).toBe(true);
  });

  it("waits for a store that is not there yet", async () => {
    faulty.lose();
    run();
    await clock.advance(3_000);
    expect(feed.fresh).toBe(false);
    faulty.restore();
    await passUntil(clock, feed.ready(signal), 500);
  });

  it("lists anew when its place in the history is gone, and shows watchers the differences", async () => {
    await putServer("a");
    await putServer("b");
    run();
    await feed.ready(signal);
    const changes = view.serverLog.follow(view.revision, signal);
    await changes.next();
    faulty.lose();
    await eventually(() => feed.fresh).toBe(false);
    await inner.txn({ compare: [], then: [{ delete: { key: keys.server("a") } }] });
    const revision = await putServer("c");
    await inner.compact(revision);
    faulty.restore();
    await passUntil(clock, feed.reached(revision, signal), 500);
    expect(servers()).toEqual(["b", "c"]);
    const { value } = await changes.next();
    expect(
      value?.events.map((event: { resource: { serverId: string } }) => event.resource.serverId).sort(),
    ).toEqual(["a", "c"]);
  });

  it("takes a watch that merely ends for a lost store", async () => {
    let ended = 0;
    const store: Store = {
      ...faulty.store,
      async *watch(request, watching) {
        ended += 1;
        if (ended > 2) yield* faulty.store.watch(request, watching);
        else yield { revision: request.fromRevision - 1n, events: [] };
      },
    };
    feed = createFeed({ store, keys, view, clock, logger });
    run();
    await eventually(() => ended).toBeGreaterThanOrEqual(1);
    await passUntil(clock, eventually(() => ended > 2 && feed.fresh).toBe(true), 100);
  });

  it("gives up waiting with the caller's reason", async () => {
    run();
    await feed.ready(signal);
    const late = new StoreError("unavailable", "late");
    const caller = new AbortController();
    const reached = feed.reached(99n, caller.signal);
    caller.abort(late);
    await expect(reached).rejects.toBe(late);
  });
});
