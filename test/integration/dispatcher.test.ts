import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import { runAgent } from "../../client/agent/agent.ts";
import { type DispatcherOptions, runDispatcher } from "../../client/dispatcher/dispatcher.ts";
import { createStats } from "../../client/dispatcher/stats.ts";
import { type ConvokeClient, createAgentClient, createConvokeClient } from "../../client/transport/client.ts";
import { timestampFromMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { runServe } from "../../server/serve.ts";

/** Against hanging only. */
const SOON = { timeout: 50_000, interval: 20 };

describe("dispatchers with a real control plane and real agents", () => {
  const logger = pino({ level: "silent" });
  let stack = new AsyncDisposableStack();
  afterEach(async () => {
    await stack.disposeAsync();
    stack = new AsyncDisposableStack();
  });

  /** Runs something until it is stopped; the end of the test stops and awaits it. */
  function running(run: (signal: AbortSignal) => Promise<void>) {
    const controller = new AbortController();
    const over = run(controller.signal);
    over.catch(() => {});
    const stop = () => {
      controller.abort();
      return over;
    };
    stack.defer(() => stop().catch(() => {}));
    return { stop, over };
  }

  async function controlPlane(): Promise<{ endpoint: string; client: ConvokeClient }> {
    const directory = await mkdtemp(join(tmpdir(), "convoke-dispatcher-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const listening = Promise.withResolvers<string>();
    const { over } = running((signal) =>
      runServe(
        {
          listen: "127.0.0.1:0",
          http: "127.0.0.1:0",
          store: `embedded:${directory}`,
          logger,
          onListening: ({ grpc }) => listening.resolve(grpc),
        },
        signal,
      ),
    );
    over.catch(listening.reject);
    const endpoint = await listening.promise;
    return { endpoint, client: stack.use(createConvokeClient({ endpoint })) };
  }

  async function agents(endpoint: string, count: number, capacity: number) {
    const addresses: string[] = [];
    for (let index = 0; index < count; index++) {
      const serving = Promise.withResolvers<string>();
      const { over } = running((signal) =>
        runAgent(
          { id: `s${index}`, endpoint, capacity },
          { logger, onServing: (address) => serving.resolve(address) },
          signal,
        ),
      );
      over.catch(serving.reject);
      addresses.push(await serving.promise);
    }
    return addresses;
  }

  function dispatcher(id: string, endpoint: string, more: Partial<DispatcherOptions> = {}) {
    const stats = createStats();
    const { stop, over } = running((signal) =>
      runDispatcher({ id, endpoint, tickMs: 200, ...more }, signal, { logger, stats }),
    );
    return { id, stats, stop, over };
  }

  async function addConferences(client: ConvokeClient, count: number, prefix = "c") {
    for (let from = 0; from < count; from += 100) {
      await client.conferences.batchCreateConferences({
        requests: Array.from({ length: Math.min(100, count - from) }, (_, index) => ({
          conference: {
            conferenceId: `${prefix}-${from + index}`,
            startTime: timestampFromMs(Date.now() + 60_000),
            endTime: timestampFromMs(Date.now() + 3_600_000),
            weight: 1,
          },
        })),
      });
    }
  }

  async function dispatches(client: ConvokeClient) {
    const rows = [];
    let pageToken = "";
    do {
      const page = await client.conferences.listDispatches({ pageSize: 1_000, pageToken });
      rows.push(...page.dispatches);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return rows;
  }

  const registered = (client: ConvokeClient, count: number) =>
    expect
      .poll(async () => (await client.dispatchers.listDispatchers({})).dispatchers.length, SOON)
      .toBe(count);

  function spread(values: readonly string[]) {
    const counts = new Map<string, number>();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    const sizes = [...counts.values()];
    return { groups: counts.size, difference: Math.max(...sizes) - Math.min(...sizes) };
  }

  it("share out the conferences evenly and host every one that is in the table", async () => {
    const { endpoint, client } = await controlPlane();
    const addresses = await agents(endpoint, 3, 500);
    const team = ["d0", "d1", "d2", "d3"].map((id) => dispatcher(id, endpoint));
    await registered(client, 4);
    await addConferences(client, 400);
    await expect.poll(async () => (await dispatches(client)).length, SOON).toBe(400);
    const rows = await dispatches(client);
    expect(spread(rows.map(({ serverId }) => serverId)).groups).toBe(3);
    const hosted = new Map<string, bigint>();
    for (const address of addresses) {
      using agent = createAgentClient(address);
      const page = await agent.listHostedConferences({ pageSize: 1_000 });
      for (const { conferenceId, dispatchEpoch } of page.conferences) {
        expect(hosted.has(conferenceId)).toBe(false);
        hosted.set(conferenceId, dispatchEpoch);
      }
    }
    expect(hosted.size).toBe(400);
    for (const { conferenceId, epoch } of rows) expect(hosted.get(conferenceId)).toBe(epoch);
    expect(team.reduce((sum, { stats }) => sum + stats.committed, 0)).toBe(400);
    expect(team.reduce((sum, { stats }) => sum + stats.startFailures + stats.rejected, 0)).toBe(0);
  });

  it("deregister when they stop, and leave the table as it is", async () => {
    const { endpoint, client } = await controlPlane();
    await agents(endpoint, 1, 100);
    const { stop } = dispatcher("d0", endpoint, { ttlMs: 60_000 });
    await addConferences(client, 10);
    await expect.poll(async () => (await dispatches(client)).length, SOON).toBe(10);
    await stop();
    expect((await client.dispatchers.listDispatchers({})).dispatchers).toEqual([]);
    expect(await dispatches(client)).toHaveLength(10);
  });

  it("end with a clear error when another takes their ID, and the other takes over", async () => {
    const { endpoint, client } = await controlPlane();
    await agents(endpoint, 1, 100);
    const first = dispatcher("d0", endpoint);
    await registered(client, 1);
    dispatcher("d0", endpoint);
    await expect(first.over).rejects.toThrow('another process has registered as dispatcher "d0"');
    await addConferences(client, 5);
    await expect.poll(async () => (await dispatches(client)).length, SOON).toBe(5);
  });

  it("leave what does not fit in view, and place it when a server with room comes", async () => {
    const { endpoint, client } = await controlPlane();
    await agents(endpoint, 1, 6);
    dispatcher("d0", endpoint);
    dispatcher("d1", endpoint);
    await registered(client, 2);
    await addConferences(client, 10);
    await expect.poll(async () => (await dispatches(client)).length, SOON).toBe(6);
    const { conferences } = await client.conferences.listConferences({ pageSize: 100 });
    expect(conferences.filter(({ state }) => state === Conference_State.FAILED)).toEqual([]);
    const late = Promise.withResolvers<string>();
    running((signal) =>
      runAgent(
        { id: "late", endpoint, capacity: 10 },
        { logger, onServing: (address) => late.resolve(address) },
        signal,
      ),
    );
    await expect.poll(async () => (await dispatches(client)).length, SOON).toBe(10);
    expect(spread((await dispatches(client)).map(({ serverId }) => serverId)).groups).toBe(2);
  });
});
