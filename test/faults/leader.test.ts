import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { writeBatch } from "../../server/store/conditional-writes.ts";
import { type Store, StoreError, type StoreEvent } from "../../server/store/store.ts";
import type { Feed } from "../../server/view/feed.ts";
import { bytes, describeEvent, eventsOf, get, put, text, watchTo } from "../conformance/harness.ts";
import { until, within } from "../support/deadline.ts";
import { type EtcdCluster, type EtcdMember, startEtcd } from "../support/etcd.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { describeStore, describeView, follow, openEtcd } from "./world.ts";

/** What a client did, and what it was told. */
interface Call {
  readonly key: string;
  readonly startMs: number;
  readonly endMs: number;
  /** The revision of the write, or the code of its error. */
  readonly outcome: bigint | string;
}

const WRITERS = 3;

const PROBE_INTERVAL_MS = 50;

async function writeOnce(store: Store, key: string, calls: Call[]): Promise<boolean> {
  const startMs = performance.now();
  const write = { key, modRevision: 0n, value: bytes(key) };
  const outcome = await writeBatch(store, [], [write]).then(
    ({ revision }) => revision,
    (err: unknown) => (err instanceof StoreError ? err.code : String(err)),
  );
  calls.push({ key, startMs, endMs: performance.now(), outcome });
  return typeof outcome === "bigint";
}

/** Writes one new key after the other until told to stop. */
async function writeOn(store: Store, name: string, calls: Call[], signal: AbortSignal): Promise<void> {
  for (let n = 0; !signal.aborted; n++) {
    // A refusal may come at once.
    if (!(await writeOnce(store, `${name}/${n}`, calls)))
      await new Promise((resolve) => setTimeout(resolve, PROBE_INTERVAL_MS));
  }
}

/** Begins a write every so often, whatever became of those before: what calls that come after a fault meet with. */
async function probe(store: Store, name: string, calls: Call[], signal: AbortSignal): Promise<void> {
  const probes: Promise<unknown>[] = [];
  while (!signal.aborted) {
    probes.push(writeOnce(store, `${name}/${probes.length}`, calls));
    await new Promise((resolve) => setTimeout(resolve, PROBE_INTERVAL_MS));
  }
  await Promise.all(probes);
}

/** Adds up how long a view was stale. */
async function watchFreshness(feed: Feed, report: (staleMs: number) => void, signal: AbortSignal) {
  let staleMs = 0;
  for (let lastMs = performance.now(); !signal.aborted; ) {
    await new Promise((resolve) => setTimeout(resolve, PROBE_INTERVAL_MS));
    const nowMs = performance.now();
    if (!feed.fresh) staleMs += nowMs - lastMs;
    lastMs = nowMs;
  }
  report(staleMs);
}

/** When the first write was acknowledged of those that began after the fault, and how long the slowest call took. */
function describeRecovery(calls: readonly Call[], faultMs: number): string {
  const after = calls.filter(({ startMs, outcome }) => typeof outcome === "bigint" && startMs >= faultMs);
  const first = Math.min(...after.map(({ endMs }) => endMs)) - faultMs;
  const slowest = Math.max(...calls.map(({ startMs, endMs }) => endMs - startMs));
  return `new writes from ${Math.round(first)} ms on, slowest call ${Math.round(slowest)} ms`;
}

describe("a cluster whose leader fails while writes go on", () => {
  let etcd: EtcdCluster;
  let stack: AsyncDisposableStack;

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    etcd = stack.use(await startEtcd({ members: 3 }));
  });

  afterEach(() => stack.disposeAsync());

  /** A store that is connected to one member, and knows of all. */
  async function openAt(member: EtcdMember) {
    const proxies = await Promise.all(etcd.endpoints.map((target) => startFaultProxy({ target })));
    for (const proxy of proxies) stack.use(proxy);
    const others = proxies.filter((_, index) => etcd.members[index] !== member);
    for (const proxy of others) proxy.refuse(true);
    const opened = stack.use(openEtcd(proxies.map(({ address }) => address)));
    await until("a connection", () =>
      put(opened.store, "warm", "up").then(
        () => true,
        () => false,
      ),
    );
    for (const proxy of others) proxy.refuse(false);
    return opened.store;
  }

  it.each(["killed", "paused"])(
    "I3, I7: %s: nothing acknowledged is lost, and every watch sees all of it once",
    async (how) => {
      const leader = await etcd.leader();
      const follower = etcd.members.find((member) => member !== leader) ?? leader;
      const clients = await Promise.all(
        [leader, follower].map(async (member) => {
          const store = await openAt(member);
          return { store, calls: [] as Call[], seen: [] as StoreEvent[], ...stack.use(await follow(store)) };
        }),
      );
      const { revision: start } = await put(clients[0]?.store ?? fail(), "start", "");
      const stop = new AbortController();
      const watching = new AbortController();
      const watches = clients.map(async ({ store, seen }) => {
        const request = { prefix: "", fromRevision: start + 1n };
        for await (const { events } of store.watch(request, watching.signal)) {
          seen.push(...events);
          if (events.some(({ kv }) => kv.key === "end")) break;
        }
      });
      const staleMs = clients.map(() => 0);
      const writers = clients.flatMap(({ store, calls, feed }, index) => [
        watchFreshness(feed, (ms) => (staleMs[index] = ms), stop.signal),
        probe(store, `${index}.probe`, calls, stop.signal),
        ...Array.from({ length: WRITERS }, (_, n) => writeOn(store, `${index}.${n}`, calls, stop.signal)),
      ]);
      const allWriteSince = async (sinceMs: number) =>
        clients.every(
          ({ calls }) =>
            calls.filter(({ outcome, startMs }) => typeof outcome === "bigint" && startMs >= sinceMs).length >
            20,
        );
      await until("writes", () => allWriteSince(0));

      const faultMs = performance.now();
      if (how === "killed") await leader.kill();
      else leader.pause();
      await until("writes after the fault", () => allWriteSince(faultMs));
      const backMs = performance.now();
      if (how === "killed") await leader.start();
      else leader.resume();
      await until("writes after the return", () => allWriteSince(backMs));
      stop.abort();
      await within("the last writes", Promise.all(writers));
      for (const [index, { calls }] of clients.entries()) {
        const where = index === 0 ? "leader" : "follower";
        console.log(
          `${how}: client of the ${where}: ${describeRecovery(calls, faultMs)}, view stale for ${Math.round(staleMs[index] ?? 0)} ms`,
        );
      }

      await using direct = openEtcd(etcd.endpoints);
      const { revision: end } = await put(direct.store, "end", "");
      await within("the end of the watches", Promise.all(watches));
      const history = eventsOf(await watchTo(direct.store, "", start + 1n, end)).map(describeEvent);
      for (const { seen } of clients) expect(seen.map(describeEvent)).toEqual(history);
      const outcomes: Record<string, number> = {};
      for (const { key, outcome } of clients.flatMap(({ calls }) => calls)) {
        const kv = await get(direct.store, key);
        const name = typeof outcome === "bigint" ? "written" : outcome;
        outcomes[name] = (outcomes[name] ?? 0) + 1;
        if (typeof outcome === "bigint") {
          expect(text(kv)).toBe(key);
          expect(kv).toMatchObject({ modRevision: outcome, version: 1n });
        } else if (outcome !== "unknown_outcome") {
          expect([key, outcome, kv]).toEqual([key, "unavailable", undefined]);
        }
      }
      console.log(`${how}: ${JSON.stringify(outcomes)}, ${history.length} events at each of two watches`);
      await until("the views are fresh", async () => clients.every(({ feed }) => feed.fresh));
      for (const { view } of clients) expect(describeView(view)).toEqual(await describeStore(direct.store));
      watching.abort();
    },
  );
});

function fail(): never {
  throw new Error("no client");
}
