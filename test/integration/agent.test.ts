import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code } from "@connectrpc/connect";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import WebSocket from "ws";
import { runAgent } from "../../client/agent/agent.ts";
import { createAgentClient, createConvokeClient } from "../../client/transport/client.ts";
import { durationFromMs, timestampFromMs } from "../../common/time.ts";
import { runServe } from "../../server/serve.ts";

const logger = pino({ level: "silent" });
const PATIENCE = { timeout: 30_000, interval: 20 };

let stack: AsyncDisposableStack;
let dataDir: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  dataDir = await mkdtemp(join(tmpdir(), "convoke-agent-"));
  stack.defer(() => rm(dataDir, { recursive: true }));
});

afterEach(() => stack.disposeAsync());

/** Runs something until it is stopped; stopping twice is fine. */
async function run<T>(
  start: (signal: AbortSignal, ready: (value: T) => void) => Promise<void>,
): Promise<{ value: T; stop: () => Promise<void> }> {
  const abort = new AbortController();
  const ready = Promise.withResolvers<T>();
  const finished = start(abort.signal, ready.resolve);
  finished.catch(ready.reject);
  const stop = async () => {
    abort.abort();
    await finished;
  };
  stack.defer(stop);
  return { value: await ready.promise, stop };
}

const serve = (listen = "127.0.0.1:0") =>
  run<string>((signal, ready) =>
    runServe(
      {
        listen,
        http: "127.0.0.1:0",
        store: `embedded:${dataDir}`,
        logger,
        onListening: ({ grpc }) => ready(grpc),
      },
      signal,
    ),
  );

const serveAgent = (endpoint: string) =>
  run<string>((signal, onServing) =>
    runAgent({ id: "s1", capacity: 100, endpoint, labels: { zone: "a" } }, { logger, onServing }, signal),
  );

async function participant(address: string) {
  const socket = new WebSocket(address);
  stack.defer(() => socket.terminate());
  const closed = once(socket, "close").then(([code]) => code as number);
  await once(socket, "open");
  return { socket, closed, hears: () => once(socket, "message").then(([data]) => String(data)) };
}

/** Does what a dispatcher does for one conference that is due, and returns where it is hosted. */
async function dispatch(endpoint: string, agentAddress: string, conferenceId: string): Promise<string> {
  using client = createConvokeClient({ endpoint });
  using agent = createAgentClient(agentAddress);
  const now = Date.now();
  await client.conferences.createConference({
    conference: {
      conferenceId,
      startTime: timestampFromMs(now),
      endTime: timestampFromMs(now + 3_600_000),
      weight: 2,
    },
  });
  const { dispatcher } = await client.dispatchers.registerDispatcher({
    dispatcherId: `for-${conferenceId}`,
    ttl: durationFromMs(60_000),
  });
  const me = { dispatcherId: dispatcher?.dispatcherId ?? "", epoch: dispatcher?.epoch ?? 0n };
  const { server } = await client.servers.getServer({ serverId: "s1" });
  const incarnation = server?.incarnation ?? 0n;
  for await (const { tasks } of client.dispatchers.fetchTasks({ ...me, wait: durationFromMs(30_000) })) {
    const task = tasks.find((candidate) => candidate.conferenceId === conferenceId);
    if (!task) continue;
    const { results } = await agent.startConferences({
      incarnation,
      starts: [
        {
          conferenceId,
          dispatchEpoch: task.dispatchEpoch,
          weight: task.weight,
          ...(task.validUntil ? { validUntil: task.validUntil } : {}),
        },
      ],
    });
    const outcome = results[0]?.outcome;
    if (outcome?.case !== "address")
      throw new Error(`not started: ${JSON.stringify(outcome?.value?.message)}`);
    const committed = await client.dispatchers.commitDispatches({
      ...me,
      dispatches: [
        {
          conferenceId,
          dispatchEpoch: task.dispatchEpoch,
          serverId: "s1",
          incarnation,
          address: outcome.value,
        },
      ],
    });
    expect(committed.results[0]?.outcome.case).toBe("dispatch");
    break;
  }
  await client.dispatchers.deregisterDispatcher(me);
  const found = await client.conferences.getDispatch({ conferenceId });
  return found.dispatch?.address ?? "";
}

async function registered(endpoint: string) {
  using client = createConvokeClient({ endpoint });
  const read = () =>
    client.servers.getServer({ serverId: "s1" }).then(
      ({ server }) => server?.incarnation,
      () => undefined,
    );
  await expect.poll(read, PATIENCE).toBeDefined();
  return await client.servers.getServer({ serverId: "s1" });
}

test("participants meet at the address in the dispatch table, and leave when the conference ends", async () => {
  const { value: endpoint } = await serve();
  const { value: agentAddress } = await serveAgent(endpoint);
  const { server } = await registered(endpoint);
  expect(server).toMatchObject({ agentAddress, capacity: 100, labels: { zone: "a" }, driver: "loopback" });

  const address = await dispatch(endpoint, agentAddress, "standup");
  const [ann, bob] = await Promise.all([participant(address), participant(address)]);
  const heard = bob.hears();
  ann.socket.send("good morning");
  expect(await heard).toBe("good morning");
  using agent = createAgentClient(agentAddress);
  expect(await agent.keepalive({ dispatcherId: "d1" })).toMatchObject({
    serverId: "s1",
    instanceId: server?.instanceId,
    incarnation: server?.incarnation,
    conferenceCount: 1,
    participantCount: 2,
  });

  using client = createConvokeClient({ endpoint });
  await client.conferences.endConference({ conferenceId: "standup" });
  expect(await Promise.all([ann.closed, bob.closed])).toEqual([4001, 4001]);
  expect((await agent.listHostedConferences({})).conferences).toEqual([]);
});

test("rooms go on while the control plane is away, and what happens then is caught up with", async () => {
  const first = await serve();
  const endpoint = first.value;
  const { value: agentAddress } = await serveAgent(endpoint);
  const before = await registered(endpoint);
  const address = await dispatch(endpoint, agentAddress, "long");
  const [ann, bob] = await Promise.all([participant(address), participant(address)]);

  await first.stop();
  const heard = bob.hears();
  ann.socket.send("still here?");
  expect(await heard).toBe("still here?");

  await serve(endpoint);
  const after = await registered(endpoint);
  expect(after.server?.incarnation).toBe(before.server?.incarnation);
  const again = ann.hears();
  bob.socket.send("still here");
  expect(await again).toBe("still here");
  using client = createConvokeClient({ endpoint });
  await client.conferences.cancelConference({ conferenceId: "long" });
  expect(await Promise.all([ann.closed, bob.closed])).toEqual([4001, 4001]);
});

test("an agent that stops answers no more, and its participants are told", async () => {
  const { value: endpoint } = await serve();
  const agent = await serveAgent(endpoint);
  await registered(endpoint);
  const address = await dispatch(endpoint, agent.value, "standup");
  const ann = await participant(address);
  await agent.stop();
  expect(await ann.closed).toBe(1001);
  using client = createAgentClient(agent.value, { timeoutMs: 5_000 });
  await expect(client.keepalive({})).rejects.toMatchObject({ code: Code.Unavailable });
});

test("an agent whose facts are invalid stops with the reason", async () => {
  const { value: endpoint } = await serve();
  const abort = new AbortController();
  stack.defer(() => abort.abort());
  const options = { id: "s1", capacity: 1, endpoint, region: "x".repeat(64) };
  await expect(runAgent(options, { logger }, abort.signal)).rejects.toMatchObject({
    code: Code.InvalidArgument,
    rawMessage: expect.stringContaining("server.region"),
  });
});
