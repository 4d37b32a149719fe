import { afterEach, describe, expect, it } from "vitest";
import type { ConvokeClient } from "../../client/transport/client.ts";
import { watchServers } from "../../client/watch.ts";
import { timestampFromMs } from "../../common/time.ts";
import type { Conference } from "../../proto/gen/convoke/v1/conference_pb.js";
import type { Task } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { embeddedCluster, etcdCluster, startReplicas, type TestReplicas } from "../support/replicas.ts";
import { seededRandom } from "../support/seeded-random.ts";

const SEED = Number(process.env.CONVOKE_TEST_SEED ?? 20_261_003);
const DISPATCHERS = 6;
const CONFERENCES = 3_000;
const SERVERS = 8;
/** The claim transactions of replicas that hand out at once may conflict this often. */
const MAX_CONFLICT_SHARE = 0.02;
/** Against hanging only. */
const SOON = { timeout: 50_000, interval: 20 };
const SETTINGS = {
  replicaLagMs: 200,
  // Nobody is to take what is another's only because the machine is busy.
  takeoverMs: 60_000,
};

const slow = (watchMs: number) => embeddedCluster({ txnMs: 3, watchMs, random: seededRandom(SEED) });

describe.each([slow(20), etcdCluster])("three replicas on $name", (factory) => {
  const stop = new AbortController();
  let opened: TestReplicas | undefined;
  afterEach(async () => {
    await opened?.[Symbol.asyncDispose]();
    opened = undefined;
  });

  async function start() {
    opened = await startReplicas(factory, 3, SETTINGS);
    return opened;
  }

  async function register(client: ConvokeClient, dispatcherId: string) {
    const { dispatcher } = await client.dispatchers.registerDispatcher({
      dispatcherId,
      ttl: { seconds: 600n },
    });
    return { client, dispatcherId, epoch: dispatcher?.epoch ?? 0n };
  }
  type Registered = Awaited<ReturnType<typeof register>>;

  async function addServers({ servers }: ConvokeClient) {
    for (let index = 0; index < SERVERS; index++) {
      const server = {
        serverId: `s${index}`,
        agentAddress: "127.0.0.1:9",
        capacity: 1e6,
        instanceId: "life",
      };
      await servers.registerServer({ server });
    }
  }

  async function addConferences({ conferences }: ConvokeClient, from: number, count: number) {
    const nowMs = Date.now();
    const requests = Array.from({ length: count }, (_, index) => ({
      conference: {
        conferenceId: `c${from + index}`,
        startTime: timestampFromMs(nowMs + 60_000 + (((from + index) * 7_919) % 100_000)),
        endTime: timestampFromMs(nowMs + 7_200_000),
      },
    }));
    await conferences.batchCreateConferences({ requests });
  }

  async function fetchOnce({ client, dispatcherId, epoch }: Registered, waitMs = 0): Promise<Task[]> {
    const tasks: Task[] = [];
    const wait = { seconds: BigInt(Math.floor(waitMs / 1000)), nanos: (waitMs % 1000) * 1e6 };
    for await (const message of client.dispatchers.fetchTasks(
      { dispatcherId, epoch, wait },
      { signal: stop.signal },
    ))
      tasks.push(...message.tasks);
    return tasks;
  }

  /** Gives how many were committed; throws when one was refused. */
  async function commit({ client, dispatcherId, epoch }: Registered, tasks: readonly Task[]) {
    for (let from = 0; from < tasks.length; from += 500) {
      const dispatches = tasks.slice(from, from + 500).map(({ conferenceId, dispatchEpoch }, index) => ({
        conferenceId,
        dispatchEpoch,
        serverId: `s${(from + index) % SERVERS}`,
        incarnation: 1n,
        address: `ws://127.0.0.1:9/${conferenceId}/${dispatchEpoch}`,
      }));
      const { results } = await client.dispatchers.commitDispatches({ dispatcherId, epoch, dispatches });
      for (const { conferenceId, outcome } of results) {
        const why = outcome.case === "rejection" ? outcome.value.message : "";
        expect(outcome.case, `${conferenceId}: ${why}`).toBe("dispatch");
      }
    }
  }

  async function listAll({ conferences }: ConvokeClient): Promise<Conference[]> {
    const found: Conference[] = [];
    let pageToken = "";
    do {
      const page = await conferences.listConferences({ pageSize: 1000, pageToken });
      found.push(...page.conferences);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return found;
  }

  async function writesOf({ replicas }: TestReplicas, kind: string) {
    const sum: Record<string, number> = {};
    for (const replica of replicas)
      for (const [outcome, count] of Object.entries(await replica.writes(kind)))
        sum[outcome] = (sum[outcome] ?? 0) + count;
    return sum;
  }

  it.each([
    ["at once", 1_000],
    ["little by little", 40],
  ])("share out what is scheduled %s, each once, evenly, and without meeting (I1, I4)", async (_, batch) => {
    const cluster = await start();
    const { replicas } = cluster;
    const client = cluster.connect();
    await addServers(client);
    const team = await Promise.all(
      Array.from({ length: DISPATCHERS }, async (_, index) => {
        const replica = replicas[index % replicas.length];
        if (!replica) throw new Error("no replica");
        return await register(replica.client, `d${index}`);
      }),
    );
    const taken = new Map<string, string>();
    const over = new AbortController();
    const working = Promise.all(
      team.map(async (dispatcher) => {
        while (!over.signal.aborted) {
          const tasks = await fetchOnce(dispatcher, 250);
          for (const { conferenceId } of tasks) {
            expect(taken.get(conferenceId), `${conferenceId} is handed out twice`).toBeUndefined();
            taken.set(conferenceId, dispatcher.dispatcherId);
          }
          await commit(dispatcher, tasks);
        }
      }),
    );
    working.catch(() => {});
    try {
      for (let from = 0; from < CONFERENCES; from += batch) await addConferences(client, from, batch);
      await Promise.race([expect.poll(() => taken.size, SOON).toBe(CONFERENCES), working]);
    } finally {
      over.abort();
    }
    await working;

    const conferences = await listAll(client);
    const rounds = Map.groupBy(conferences, ({ claim }) => claim?.round);
    for (const [round, members] of rounds) {
      const counts = team.map(
        ({ dispatcherId }) => members.filter(({ claim }) => claim?.dispatcherId === dispatcherId).length,
      );
      expect(Math.max(...counts) - Math.min(...counts), `round ${round}: ${counts}`).toBeLessThanOrEqual(1);
    }
    const claims = await writesOf(cluster, "claim");
    const all = Object.values(claims).reduce((a, b) => a + b, 0);
    const conflictShare = (claims.conflict ?? 0) / all;
    console.log(
      `${factory.name}, seed ${SEED}: ${rounds.size} rounds, ${all} claim transactions ${JSON.stringify(claims)}, ` +
        `${(conflictShare * 100).toFixed(2)} % conflict; commits ${JSON.stringify(await writesOf(cluster, "commit"))}`,
    );
    expect(conflictShare).toBeLessThan(MAX_CONFLICT_SHARE);
  });

  it("keep a registration and its claims when the one it was made through ends", async () => {
    const cluster = await start();
    const client = cluster.connect();
    await addServers(client);
    const dispatcher = await register(client, "d1");
    await addConferences(client, 0, 300);
    const tasks = await fetchOnce(dispatcher);
    expect(tasks).toHaveLength(300);
    await commit(dispatcher, tasks.slice(0, 100));
    await cluster.replicas[0]?.stop(0);
    const { dispatcherCount } = await client.dispatchers.heartbeat({
      dispatcherId: "d1",
      epoch: dispatcher.epoch,
    });
    expect(dispatcherCount).toBe(1);
    await commit(dispatcher, tasks.slice(100, 200));
    await cluster.replicas[1]?.stop(0);
    // What it holds is sent again, under the same dispatch epochs.
    const held = await fetchOnce(dispatcher);
    expect(held.map(({ dispatchEpoch }) => dispatchEpoch)).toEqual(
      tasks.slice(200).map(({ dispatchEpoch }) => dispatchEpoch),
    );
    await commit(dispatcher, held);
    const { dispatchers } = await client.dispatchers.listDispatchers({});
    expect(dispatchers.map(({ epoch }) => epoch)).toEqual([dispatcher.epoch]);
  });

  it("tell a watch every change once, while one after the other ends (I7)", async () => {
    const cluster = await start();
    const [first, second, third] = cluster.replicas;
    if (!first || !second || !third) throw new Error("three replicas");
    const over = new AbortController();
    const told: string[] = [];
    const watching = (async () => {
      const watcher = cluster.connect();
      for await (const update of watchServers(watcher.servers, { signal: over.signal })) {
        if (update.kind === "restart") told.push("restart");
        else told.push(...update.events.map(({ server }) => server?.serverId ?? ""));
      }
    })();
    watching.catch(() => {});
    const ids = Array.from({ length: 300 }, (_, index) => `s${String(index).padStart(3, "0")}`);
    for (const [index, serverId] of ids.entries()) {
      await third.client.servers.registerServer({
        server: { serverId, agentAddress: "127.0.0.1:9", capacity: 1, instanceId: "life" },
      });
      // The watch is on the first, and then on the second, when they end.
      if (index === 0) await expect.poll(() => told.length, SOON).toBe(1);
      if (index === 100) void first.stop(0);
      if (index === 200) void second.stop(0);
    }
    await expect.poll(() => told.length, SOON).toBeGreaterThanOrEqual(ids.length);
    over.abort();
    await expect(watching).rejects.toThrow();
    expect(told).toEqual(ids);
  });
});

describe("a replica that is behind", () => {
  it("waits for what its caller has seen through another, and does not answer from the past", async () => {
    const prompt = { txnMs: 0, watchMs: 0, random: () => 0 };
    const late = { txnMs: 0, watchMs: 500, random: () => 1 };
    await using cluster = await startReplicas(embeddedCluster(prompt, late), 2, SETTINGS);
    const client = cluster.connect();
    const now = Date.now();
    for (const conferenceId of ["c1", "c2"]) {
      const times = { startTime: timestampFromMs(now), endTime: timestampFromMs(now + 3_600_000) };
      await client.conferences.createConference({ conference: { conferenceId, ...times } });
    }
    await cluster.replicas[0]?.stop(0);
    await client.conferences.cancelConference({ conferenceId: "c1" });
    const { conferences } = await client.conferences.listConferences({});
    expect(conferences.map(({ conferenceId }) => conferenceId)).toEqual(["c1", "c2"]);
  });

  it("is not waited for when its store has begun another life", async () => {
    await using before = await startReplicas(embeddedCluster(), 1, SETTINGS);
    await using after = await startReplicas(embeddedCluster(), 1, SETTINGS);
    const client = before.connect([...before.endpoints, ...after.endpoints]);
    for (let index = 0; index < 20; index++)
      await client.servers.registerServer({
        server: { serverId: `s${index}`, agentAddress: "127.0.0.1:9", capacity: 1, instanceId: "life" },
      });
    await before.replicas[0]?.stop(0);
    const { servers } = await client.servers.listServers({});
    expect(servers).toEqual([]);
  });
});
