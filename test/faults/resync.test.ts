import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import type { Change } from "../../server/view/change-log.ts";
import type { DispatchChange } from "../../server/view/dispatch-change.ts";
import type { View } from "../../server/view/view.ts";
import { remove } from "../conformance/harness.ts";
import { until, within } from "../support/deadline.ts";
import { type EtcdCluster, startEtcd } from "../support/etcd.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import {
  conferencePut,
  describeStore,
  describeView,
  dispatcherPut,
  follow,
  keys,
  openEtcd,
  serverPut,
  write,
} from "./world.ts";

/** What a client knows that follows the dispatch table: each valid dispatch by conference, as `server epoch`. */
function followTable(view: View, fromRevision: bigint) {
  const controller = new AbortController();
  const table = new Map<string, string>(rowsOf(view));
  const changes: Change<DispatchChange>[] = [];
  const following = (async () => {
    for await (const change of view.dispatchLog.follow(fromRevision, controller.signal)) {
      changes.push(change);
      for (const { type, dispatch } of change.events) {
        if (type === EventType.DELETE) table.delete(dispatch.conferenceId);
        else table.set(dispatch.conferenceId, `${dispatch.serverId} ${dispatch.epoch}`);
      }
    }
  })();
  return {
    table,
    changes,
    async [Symbol.asyncDispose]() {
      controller.abort();
      await following;
    },
  };
}

function* rowsOf(view: View): Generator<[string, string]> {
  for (const { id, status, conference } of view.conferences.values()) {
    const { dispatch } = conference;
    if (status === "active" && dispatch) yield [id, `${dispatch.serverId} ${dispatch.epoch}`];
  }
}

const sorted = (rows: Iterable<readonly [string, string]>) => [...rows].sort(([a], [b]) => (a < b ? -1 : 1));

describe("compaction under a view that is cut off", () => {
  let etcd: EtcdCluster;

  beforeAll(async () => {
    etcd = await startEtcd();
  });

  afterAll(() => etcd.stop());

  it("I7: brings the view to what a listing says, and its watchers the differences", async () => {
    await using proxy = await startFaultProxy({ target: etcd.endpoints[0] ?? "" });
    await using direct = openEtcd(etcd.endpoints);
    await using cut = openEtcd([proxy.address]);
    const { store } = direct;
    const { leaseId } = await store.leaseGrant(60_000);
    await write(
      store,
      serverPut("a", 1n),
      serverPut("b", 2n),
      serverPut("c", 3n),
      dispatcherPut("d1", leaseId),
    );
    const on = (serverId: string, incarnation: bigint, epoch: bigint) => ({ serverId, incarnation, epoch });
    await write(
      store,
      conferencePut("stays", on("a", 1n, 11n)),
      conferencePut("moves", on("a", 1n, 12n)),
      conferencePut("ends", on("a", 1n, 13n)),
      conferencePut("loses its server", on("b", 2n, 14n)),
      conferencePut("waits"),
    );
    await using follower = await follow(cut.store);
    const { view, feed } = follower;
    await using client = followTable(view, view.revision);
    const seenBefore = view.revision;
    expect(client.table.size).toBe(4);

    proxy.refuse(true);
    proxy.cut();
    await write(store, conferencePut("moves", on("c", 3n, 21n)), conferencePut("comes", on("c", 3n, 22n)));
    await write(store, serverPut("b", 2n, Server_State.DOWN), conferencePut("waits", on("a", 1n, 23n)));
    await write(store, conferencePut("comes and goes", on("a", 1n, 24n)));
    await remove(store, keys.conference("comes and goes"));
    await remove(store, keys.conference("ends"));
    await store.leaseRevoke(leaseId);
    const { revision } = await write(store, serverPut("d", 4n));
    await store.compact(revision);
    const last = await write(store, conferencePut("after the compaction"));
    proxy.refuse(false);

    const controller = new AbortController();
    await within("the view", feed.reached(last.revision, controller.signal));
    expect(describeView(view)).toEqual(await describeStore(store));
    await until("its watchers know", async () => (client.changes.at(-1)?.revision ?? 0n) > seenBefore);
    expect(sorted(client.table)).toEqual(sorted(rowsOf(view)));
    expect(sorted(client.table)).toEqual([
      ["comes", "c 22"],
      ["moves", "c 21"],
      ["stays", "a 11"],
      ["waits", "a 23"],
    ]);
    const told = client.changes.flatMap(({ events }) => events.map(({ dispatch }) => dispatch.conferenceId));
    expect(told.sort()).toEqual(["comes", "ends", "loses its server", "moves", "waits"]);

    const next = await write(store, conferencePut("after the compaction", on("a", 1n, 31n)));
    await within("what follows", feed.reached(next.revision, controller.signal));
    await until("its watchers follow on", async () => client.table.has("after the compaction"));
    expect(feed.fresh).toBe(true);
    controller.abort();
  });

  it("I7: does not disturb a view that has seen what is compacted", async () => {
    await using direct = openEtcd(etcd.endpoints);
    await using follower = await follow(direct.store);
    const { view, feed } = follower;
    const controller = new AbortController();
    for (let round = 0; round < 5; round++) {
      const { revision } = await write(direct.store, serverPut("a", 1n), conferencePut(`round ${round}`));
      await within("the view", feed.reached(revision, controller.signal));
      await direct.store.compact(revision);
      expect(feed.fresh).toBe(true);
    }
    expect(direct.diary.count("watch interrupted")).toBe(0);
    expect(describeView(view)).toEqual(await describeStore(direct.store));
    controller.abort();
  });
});
