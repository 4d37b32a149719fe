import { create, toBinary } from "@bufbuild/protobuf";
import { pino } from "pino";
import { type Clock, systemClock } from "../../common/clock.ts";
import {
  ConferenceRecordSchema,
  DispatcherRecordSchema,
  ServerRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { createEtcdStore } from "../../server/store/etcd/index.ts";
import { createKeys } from "../../server/store/keys.ts";
import type { Operation, Store, TxnResult } from "../../server/store/store.ts";
import { createFeed, type Feed } from "../../server/view/feed.ts";
import { View } from "../../server/view/view.ts";
import { until, within } from "../support/deadline.ts";

export const keys = createKeys();

/** A seed for what a test leaves to chance: the one in `CONVOKE_TEST_SEED`, or a new one. Printed, to run it again. */
export function pickSeed(): number {
  const seed = Number(process.env.CONVOKE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`seed ${seed}; CONVOKE_TEST_SEED=${seed} runs it again`);
  return seed;
}

/** A store over etcd, closed at the end. */
export function openEtcd(endpoints: readonly string[], clock: Clock = systemClock) {
  const lines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => void lines.push(line) });
  const store = createEtcdStore({ endpoints, clock, logger });
  return {
    store,
    diary: { lines, count: (message: string) => lines.filter((line) => line.includes(message)).length },
    [Symbol.asyncDispose]: () => store.close(),
  };
}

export interface Follower extends AsyncDisposable {
  readonly view: View;
  readonly feed: Feed;
}

/** A view that follows a store, as a replica's does; fresh when this resolves. */
export async function follow(store: Store, clock: Clock = systemClock): Promise<Follower> {
  const view = new View(keys, clock);
  const feed = createFeed({ store, keys, view, clock, logger: pino({ level: "silent" }) });
  const controller = new AbortController();
  const running = feed.run(controller.signal);
  await within("the first view", feed.ready(controller.signal));
  await until("the view is fresh", async () => feed.fresh);
  return {
    view,
    feed,
    async [Symbol.asyncDispose]() {
      controller.abort();
      await running;
    },
  };
}

/** All that a view knows, to compare. */
export function describeView(view: View) {
  return {
    dispatchers: [...view.dispatchers.entries()].map(([id, { epoch }]) => [id, epoch]),
    servers: [...view.servers.entries()].map(([id, { modRevision }]) => [id, modRevision]),
    conferences: [...view.conferences.entries()].map(([id, entry]) => [id, entry.status, entry.modRevision]),
    waiting: [...view.waiting.values()].map(({ id }) => id),
    hosted: [...view.servers.keys()].map((id) => [
      id,
      [...view.hostingOf(id).conferences].map((entry) => entry.id).sort(),
    ]),
  };
}

/** What a view says that reads the store anew. */
export async function describeStore(store: Store) {
  await using fresh = await follow(store);
  return describeView(fresh.view);
}

export const write = (store: Store, ...then: Operation[]): Promise<TxnResult> =>
  store.txn({ compare: [], then });

export function serverPut(serverId: string, incarnation: bigint, state = Server_State.UP): Operation {
  const record = create(ServerRecordSchema, { server: { serverId, incarnation, state, capacity: 1_000 } });
  return { put: { key: keys.server(serverId), value: toBinary(ServerRecordSchema, record) } };
}

export function dispatcherPut(dispatcherId: string, lease: bigint): Operation {
  const record = create(DispatcherRecordSchema, { dispatcher: { dispatcherId } });
  return {
    put: { key: keys.dispatcher(dispatcherId), value: toBinary(DispatcherRecordSchema, record), lease },
  };
}

/** A conference that is hosted where it is said, or one that waits. */
export function conferencePut(
  conferenceId: string,
  dispatch?: { serverId: string; incarnation: bigint; epoch: bigint },
): Operation {
  const state = dispatch ? Conference_State.ACTIVE : Conference_State.SCHEDULED;
  const conference = {
    conferenceId,
    state,
    weight: 1,
    startTime: { seconds: 1_900_000_000n },
    endTime: { seconds: 1_900_003_600n },
    ...(dispatch ? { dispatch: { conferenceId, ...dispatch } } : {}),
  };
  const record = create(ConferenceRecordSchema, { conference });
  return { put: { key: keys.conference(conferenceId), value: toBinary(ConferenceRecordSchema, record) } };
}
