import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { paginate } from "../../client/paginate.ts";
import type { ConvokeClient } from "../../client/transport/client.ts";
import { timestampFromMs } from "../../common/time.ts";
import { startDeployment } from "../support/deployment.ts";
import { seededRandom } from "../support/seeded-random.ts";

/** The kills that the storm has to survive. */
const KILLS = 10;
const DISPATCHERS = ["d1", "d2", "d3"];
const SEED = Number(process.env.CONVOKE_TEST_SEED ?? 20_260_323);

/** What the control plane has acknowledged, and so must never lose. */
interface Acknowledged {
  readonly created: Set<string>;
  /** Rows of the dispatch table as they were answered: conference to dispatch epoch and address. */
  readonly dispatched: Map<string, { readonly epoch: bigint; readonly address: string }>;
  /** The highest dispatch epoch handed out for a conference. */
  readonly claimed: Map<string, bigint>;
}

/** Calls fail while the control plane is dead; anything else is a bug. */
async function toleratesDeath(err: unknown) {
  const { code } = ConnectError.from(err);
  if (code !== Code.Unavailable && code !== Code.DeadlineExceeded && code !== Code.Canceled) throw err;
  await new Promise((resolve) => setTimeout(resolve, 20));
}

async function createForever(client: ConvokeClient, acknowledged: Acknowledged, signal: AbortSignal) {
  for (let batch = 0; !signal.aborted; batch++) {
    const ids = Array.from({ length: 60 }, (_, index) => `c-${batch}-${index}`);
    const requests = ids.map((conferenceId) => ({
      conference: {
        conferenceId,
        startTime: timestampFromMs(Date.now() + 60_000),
        endTime: timestampFromMs(Date.now() + 3_600_000),
      },
    }));
    try {
      await client.conferences.batchCreateConferences({ requests }, { signal, timeoutMs: 5_000 });
      for (const id of ids) acknowledged.created.add(id);
    } catch (err) {
      if (!signal.aborted) await toleratesDeath(err);
    }
  }
}

async function dispatchForever(
  client: ConvokeClient,
  dispatcherId: string,
  acknowledged: Acknowledged,
  signal: AbortSignal,
) {
  const ttl = { seconds: 600n };
  let epoch = 0n;
  while (!signal.aborted) {
    try {
      if (epoch === 0n) {
        const { dispatcher } = await client.dispatchers.registerDispatcher({ dispatcherId, ttl }, { signal });
        epoch = dispatcher?.epoch ?? 0n;
      }
      const request = { dispatcherId, epoch, wait: { nanos: 200_000_000 } };
      for await (const { tasks } of client.dispatchers.fetchTasks(request, { signal, timeoutMs: 10_000 })) {
        for (const { conferenceId, dispatchEpoch } of tasks) {
          // A claim is never handed out under a lower epoch than before (I2).
          expect(dispatchEpoch).toBeGreaterThanOrEqual(acknowledged.claimed.get(conferenceId) ?? 0n);
          acknowledged.claimed.set(conferenceId, dispatchEpoch);
        }
        const { results } = await client.dispatchers.commitDispatches(
          {
            dispatcherId,
            epoch,
            dispatches: tasks.map(({ conferenceId, dispatchEpoch }) => ({
              conferenceId,
              dispatchEpoch,
              serverId: "s1",
              incarnation: 1n,
              address: `ws://127.0.0.1:9/${dispatcherId}/${conferenceId}/${dispatchEpoch}`,
            })),
          },
          { signal, timeoutMs: 5_000 },
        );
        for (const { conferenceId, outcome } of results) {
          // Its claims survive the death with their epoch, so nobody else can have come between.
          expect(outcome.case, `commit of ${conferenceId}`).toBe("dispatch");
          if (outcome.case === "dispatch") acknowledged.dispatched.set(conferenceId, outcome.value);
        }
      }
    } catch (err) {
      if (!signal.aborted) await toleratesDeath(err);
    }
  }
}

async function verify(client: ConvokeClient, acknowledged: Acknowledged) {
  // The storm goes on meanwhile; what it adds from now on is judged the next time.
  const created = [...acknowledged.created];
  const dispatched = [...acknowledged.dispatched];
  const conferences = new Set<string>();
  for await (const { conferenceId } of paginate(
    (pageToken) => client.conferences.listConferences({ pageToken, pageSize: 1000 }),
    (page) => page.conferences,
  )) {
    conferences.add(conferenceId);
  }
  const rows = new Map<string, { epoch: bigint; address: string }>();
  for await (const row of paginate(
    (pageToken) => client.conferences.listDispatches({ pageToken, pageSize: 1000 }),
    (page) => page.dispatches,
  )) {
    expect(rows.has(row.conferenceId), `${row.conferenceId} has two valid dispatches`).toBe(false);
    rows.set(row.conferenceId, row);
  }
  expect(created.filter((id) => !conferences.has(id))).toEqual([]);
  for (const [id, { epoch, address }] of dispatched) {
    expect(rows.get(id), id).toMatchObject({ epoch, address });
  }
  return { conferences: conferences.size, dispatches: rows.size };
}

describe("the control plane", () => {
  it(`killed ${KILLS} times in a storm of commits loses nothing acknowledged and dispatches nothing twice (I1, I2, I3)`, {
    timeout: 240_000,
  }, async () => {
    const random = seededRandom(SEED);
    await using deployment = await startDeployment();
    const { client } = deployment;
    await client.servers.registerServer({
      server: { serverId: "s1", agentAddress: "127.0.0.1:9", capacity: 1_000_000, instanceId: "life" },
    });
    const acknowledged: Acknowledged = { created: new Set(), dispatched: new Map(), claimed: new Map() };
    const storm = new AbortController();
    const running = Promise.all([
      createForever(client, acknowledged, storm.signal),
      ...DISPATCHERS.map((id) => dispatchForever(client, id, acknowledged, storm.signal)),
    ]);
    running.catch(() => {});
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        // Each life has to get something acknowledged before it ends, at a seeded moment after that.
        const before = acknowledged.dispatched.size;
        await expect
          .poll(() => acknowledged.dispatched.size, { timeout: 30_000, interval: 5 })
          .toBeGreaterThan(before);
        await new Promise((resolve) => setTimeout(resolve, random() * 200));
        await deployment.killControlPlane();
        await deployment.restartControlPlane();
        const answers = () => client.conferences.listConferences({}).then(Boolean, () => false);
        await expect.poll(answers, { timeout: 30_000 }).toBe(true);
        await verify(client, acknowledged);
      }
    } finally {
      storm.abort();
      await running;
    }
    const { conferences, dispatches } = await verify(client, acknowledged);
    console.log(
      `seed ${SEED}: ${KILLS} kills, ${acknowledged.created.size} creations and ${acknowledged.dispatched.size} dispatches acknowledged, ${conferences} conferences and ${dispatches} rows found`,
    );
  });
});
