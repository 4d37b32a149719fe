import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import { createConvokeClient } from "../../client/transport/client.ts";
import { timestampFromMs } from "../../common/time.ts";
import { runServe } from "../../server/serve.ts";

describe("/metrics of a replica", () => {
  const stack = new AsyncDisposableStack();
  afterEach(() => stack.disposeAsync());

  it("tells calls, writes, the view and what is in it, in Prometheus' text format", async () => {
    const directory = await mkdtemp(join(tmpdir(), "convoke-metrics-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const stop = new AbortController();
    const listening = Promise.withResolvers<{ grpc: string; http: string }>();
    const serving = runServe(
      {
        listen: "127.0.0.1:0",
        http: "127.0.0.1:0",
        store: `embedded:${join(directory, "store")}`,
        logger: pino({ level: "silent" }),
        onListening: listening.resolve,
      },
      stop.signal,
    );
    serving.catch(listening.reject);
    stack.defer(async () => {
      stop.abort();
      await serving;
    });
    const { grpc, http } = await listening.promise;
    const client = createConvokeClient({ endpoint: grpc });
    stack.defer(() => client.close());
    await client.servers.registerServer({
      server: { serverId: "s1", agentAddress: "127.0.0.1:1", capacity: 10, instanceId: "life" },
    });
    const { dispatcher } = await client.dispatchers.registerDispatcher({ dispatcherId: "d1" });
    const requests = ["c1", "c2", "c3"].map((conferenceId) => ({
      conference: {
        conferenceId,
        startTime: timestampFromMs(Date.now() + 60_000),
        endTime: timestampFromMs(Date.now() + 3_600_000),
      },
    }));
    await client.conferences.batchCreateConferences({ requests });
    const epoch = dispatcher?.epoch ?? 0n;
    for await (const _ of client.dispatchers.fetchTasks({ dispatcherId: "d1", epoch, maxTasks: 2 }));
    await expect(client.conferences.getConference({ conferenceId: "none" })).rejects.toThrow();

    const response = await fetch(`http://${http}/metrics`);
    expect(response.headers.get("content-type")).toContain("text/plain");
    const lines = (await response.text()).split("\n");
    const { revision } = await client.conferences.listConferences({});
    for (const line of [
      'convoke_rpc_duration_seconds_count{method="convoke.v1.DispatcherService/FetchTasks",code="OK"} 1',
      'convoke_rpc_duration_seconds_count{method="convoke.v1.ConferenceService/GetConference",code="NotFound"} 1',
      'convoke_store_txn_total{kind="claim",outcome="written"} 1',
      'convoke_store_txn_total{kind="conference",outcome="written"} 1',
      'convoke_store_txn_total{kind="round",outcome="written"} 1',
      `convoke_view_revision ${revision}`,
      "convoke_view_stale 0",
      'convoke_conferences{state="claimed"} 2',
      'convoke_conferences{state="scheduled"} 1',
      'convoke_conferences{state="failed"} 0',
      "convoke_dispatchers 1",
      'convoke_servers{state="up"} 1',
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.some((line) => line.startsWith("process_cpu_seconds_total "))).toBe(true);
  });
});
