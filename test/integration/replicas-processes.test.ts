import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startControlPlanes } from "../../client/cli/demo/control-planes.ts";
import { createProcessGroup, type ProcessGroup } from "../../client/cli/demo/processes.ts";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";
import { watchServers } from "../../client/watch.ts";
import { startEtcd } from "../support/etcd.ts";

/** Against hanging only. */
const SOON = { timeout: 50_000, interval: 20 };
const PROGRAM = [process.execPath, fileURLToPath(new URL("../../bin/convoke.js", import.meta.url))] as const;

describe("three control-plane processes over one etcd", { timeout: 120_000 }, () => {
  let stack = new AsyncDisposableStack();
  let group: ProcessGroup;
  let planes: Awaited<ReturnType<typeof startControlPlanes>>;

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "convoke-replicas-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const etcd = await startEtcd();
    stack.defer(() => etcd.stop());
    group = stack.use(createProcessGroup(PROGRAM, directory));
    const store = `etcd://${etcd.endpoints.join(",")}`;
    planes = await startControlPlanes(group, 3, store, AbortSignal.timeout(60_000));
  });
  afterEach(() => stack.disposeAsync());

  /** Tries the replicas in order. */
  function connect(endpoints = planes.endpoints): ConvokeClient {
    const client = createConvokeClient({ endpoint: endpoints, random: () => 0 });
    stack.defer(() => client.close());
    return client;
  }

  const serverOf = (serverId: string) => ({
    server: { serverId, agentAddress: "127.0.0.1:9", capacity: 1, instanceId: "life" },
  });

  function pause(index: number) {
    const { pid } = planes.replicas[index]?.process ?? { pid: 0 };
    process.kill(pid, "SIGSTOP");
    stack.defer(async () => void process.kill(pid, "SIGCONT"));
  }

  it("are left within the deadline when one stands still, and watches go on elsewhere", async () => {
    const client = connect();
    const other = connect(planes.endpoints.slice(2));
    const { dispatcher } = await client.dispatchers.registerDispatcher({ dispatcherId: "d1" });
    const epoch = dispatcher?.epoch ?? 0n;
    const told: string[] = [];
    const over = new AbortController();
    const watching = (async () => {
      for await (const update of watchServers(client.servers, { signal: over.signal })) {
        if (update.kind === "restart") told.push("restart");
        else told.push(...update.events.map(({ server }) => server?.serverId ?? ""));
      }
    })();
    watching.catch(() => {});
    await other.servers.registerServer(serverOf("s1"));
    await expect.poll(() => told, SOON).toEqual(["s1"]);

    pause(0);
    const startedMs = performance.now();
    // A heartbeat has a third of the time to live.
    await client.dispatchers.heartbeat({ dispatcherId: "d1", epoch }, { timeoutMs: 1_666 });
    const firstMs = performance.now() - startedMs;
    await client.dispatchers.heartbeat({ dispatcherId: "d1", epoch }, { timeoutMs: 1_666 });
    const secondMs = performance.now() - startedMs - firstMs;
    await client.servers.registerServer(serverOf("s2"));
    await expect.poll(() => told, SOON).toEqual(["s1", "s2"]);
    const watchMs = performance.now() - startedMs;
    console.log(
      `a replica stands still: the first call took ${firstMs.toFixed(0)} ms, the next ${secondMs.toFixed(0)} ms, ` +
        `the watch told of a change after ${watchMs.toFixed(0)} ms`,
    );
    await other.servers.registerServer(serverOf("s3"));
    await expect.poll(() => told, SOON).toEqual(["s1", "s2", "s3"]);
    over.abort();
    await expect(watching).rejects.toThrow();
  });

  it("keep a registration, and tell every change once, when one after the other is killed", async () => {
    const client = connect();
    const other = connect(planes.endpoints.slice(2));
    const { dispatcher } = await client.dispatchers.registerDispatcher({ dispatcherId: "d1" });
    const epoch = dispatcher?.epoch ?? 0n;
    const told: string[] = [];
    const over = new AbortController();
    const watching = (async () => {
      for await (const update of watchServers(client.servers, { signal: over.signal })) {
        if (update.kind === "restart") told.push("restart");
        else told.push(...update.events.map(({ server }) => server?.serverId ?? ""));
      }
    })();
    watching.catch(() => {});
    const ids = Array.from({ length: 200 }, (_, index) => `s${String(index).padStart(3, "0")}`);
    for (const [index, serverId] of ids.entries()) {
      await other.servers.registerServer(serverOf(serverId));
      if (index === 0) await expect.poll(() => told.length, SOON).toBe(1);
      if (index === 50) await planes.replicas[0]?.process.kill();
      if (index === 120) await planes.replicas[1]?.process.kill();
      if (index % 10 === 0) await client.dispatchers.heartbeat({ dispatcherId: "d1", epoch });
    }
    await expect.poll(() => told.length, SOON).toBeGreaterThanOrEqual(ids.length);
    over.abort();
    await expect(watching).rejects.toThrow();
    expect(told).toEqual(ids);
  });

  it("all forget a dispatcher that was killed, once its time to live is over", async () => {
    const clients = planes.endpoints.map((endpoint) => connect([endpoint]));
    const doomed = group.start("d1", ["dispatcher", "--id", "d1", "--endpoint", planes.endpoints.join(",")]);
    const counts = () =>
      Promise.all(
        clients.map(async ({ dispatchers }) => (await dispatchers.listDispatchers({})).dispatchers.length),
      );
    await expect.poll(counts, SOON).toEqual([1, 1, 1]);
    await doomed.kill();
    const killedMs = performance.now();
    await expect.poll(counts, SOON).toEqual([0, 0, 0]);
    const goneMs = performance.now() - killedMs;
    console.log(`a killed dispatcher is gone from every replica after ${goneMs.toFixed(0)} ms`);
  });
});
