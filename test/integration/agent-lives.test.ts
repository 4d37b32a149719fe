import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { runAgent } from "../../client/agent/agent.ts";
import type { AgentOptions } from "../../client/agent/agent-options.ts";
import { runRoomServer } from "../../client/agent/room-server/room-server.ts";
import { runDispatcher } from "../../client/dispatcher/dispatcher.ts";
import { type ConvokeClient, createAgentClient, createConvokeClient } from "../../client/transport/client.ts";
import { compileDetection, type DetectionSettings, isolationMs } from "../../common/detection.ts";
import { timestampFromMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import type { Dispatch } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { runServe } from "../../server/serve.ts";

const logger = pino({ level: "silent" });
const PATIENCE = { timeout: 50_000, interval: 20 };
const HOUR_MS = 3_600_000;

let stack: AsyncDisposableStack;
let dataDir: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  dataDir = await mkdtemp(join(tmpdir(), "convoke-lives-"));
  stack.defer(() => rm(dataDir, { recursive: true }));
});

afterEach(() => stack.disposeAsync());

interface Running<T> {
  readonly value: T;
  /** Resolves or rejects with how it ended. */
  readonly over: Promise<void>;
  stop(): Promise<void>;
}

async function run<T>(
  start: (signal: AbortSignal, ready: (value: T) => void) => Promise<void>,
): Promise<Running<T>> {
  const abort = new AbortController();
  const ready = Promise.withResolvers<T>();
  const over = start(abort.signal, ready.resolve);
  over.catch(ready.reject);
  const stop = () => {
    abort.abort();
    return over;
  };
  stack.defer(() => stop().catch(() => {}));
  return { value: await ready.promise, over, stop };
}

const serve = (listen = "127.0.0.1:0", detection = compileDetection()) =>
  run<string>((signal, ready) =>
    runServe(
      {
        listen,
        http: "127.0.0.1:0",
        store: `embedded:${dataDir}`,
        settings: { detection },
        logger,
        onListening: ({ grpc }) => ready(grpc),
      },
      signal,
    ),
  );

async function serveAgent(endpoint: string, options: Partial<AgentOptions> = {}) {
  const drain = new AbortController();
  const agent = await run<string>((signal, onServing) =>
    runAgent(
      { id: "s1", capacity: 100, endpoint, ...options },
      { logger, onServing, drain: drain.signal },
      signal,
    ),
  );
  return { ...agent, drain: () => drain.abort() };
}

const serveRooms = (control = "127.0.0.1:0") =>
  run<string>((signal, ready) =>
    runRoomServer(
      { listen: "127.0.0.1:0", control },
      { logger, onListening: (addresses) => ready(addresses.control) },
      signal,
    ),
  );

const dispatch = (endpoint: string, id = "d1") =>
  run<void>(async (signal, ready) => {
    ready();
    await runDispatcher({ id, endpoint, tickMs: 200 }, signal, { logger });
  });

function connect(endpoint: string): ConvokeClient {
  return stack.use(createConvokeClient({ endpoint }));
}

async function schedule(client: ConvokeClient, ids: readonly string[]) {
  const nowMs = Date.now();
  for (const conferenceId of ids) {
    await client.conferences.createConference({
      conference: {
        conferenceId,
        startTime: timestampFromMs(nowMs),
        endTime: timestampFromMs(nowMs + HOUR_MS),
        weight: 1,
      },
    });
  }
}

/** Where each conference is active now, by ID. */
async function table(client: ConvokeClient) {
  const { dispatches } = await client.conferences.listDispatches({ pageSize: 1_000 });
  return new Map(dispatches.map((row) => [row.conferenceId, row]));
}

async function placed(client: ConvokeClient, ids: readonly string[], serverId = "s1") {
  const places = async () => {
    const rows = await table(client);
    return ids.map((id) => rows.get(id)?.serverId);
  };
  await expect.poll(places, PATIENCE).toEqual(ids.map(() => serverId));
  return await table(client);
}

async function enter(address: string) {
  const socket = new WebSocket(address);
  stack.defer(() => socket.terminate());
  const heard: string[] = [];
  let code: number | undefined;
  socket.on("message", (data) => heard.push(String(data)));
  socket.on("close", (given) => {
    code = given;
  });
  await once(socket, "open");
  return { socket, heard, closeCode: () => code };
}

async function hostedBy(agentAddress: string) {
  using agent = createAgentClient(agentAddress);
  const { conferences } = await agent.listHostedConferences({ pageSize: 1_000 });
  return conferences.map(({ conferenceId }) => conferenceId);
}

/** An agent whose control plane and dispatcher can be stopped, with a conference that somebody is in. */
async function hostingOne(detection: DetectionSettings, options: Partial<AgentOptions> = {}) {
  const plane = await serve("127.0.0.1:0", detection);
  const client = connect(plane.value);
  const agent = await serveAgent(plane.value, options);
  const dispatcher = await dispatch(plane.value);
  await schedule(client, ["a"]);
  const before = (await placed(client, ["a"])).get("a");
  const ann = await enter(before?.address ?? "");
  return { plane, client, agent, dispatcher, before, ann };
}

/** Waits until a conference is placed anew, and gives its row. */
async function placedAnew(client: ConvokeClient, before: Dispatch | undefined) {
  const row = async () => (await table(client)).get(before?.conferenceId ?? "");
  const moved = async () => ((await row())?.epoch ?? 0n) > (before?.epoch ?? 0n);
  await expect.poll(moved, PATIENCE).toBe(true);
  return await row();
}

const serverOf = async (client: ConvokeClient, serverId = "s1") =>
  (await client.servers.getServer({ serverId })).server;

describe("an agent beside a room server", () => {
  test("that is restarted keeps its conferences, and stops what ended meanwhile (I1, I2)", async () => {
    const { value: endpoint } = await serve();
    const client = connect(endpoint);
    const { value: control } = await serveRooms();
    const first = await serveAgent(endpoint, { roomServer: control });
    await dispatch(endpoint);
    await schedule(client, ["kept", "over"]);
    const before = await placed(client, ["kept", "over"]);
    const incarnation = (await serverOf(client))?.incarnation;
    const [ann, bob] = await Promise.all([
      enter(before.get("kept")?.address ?? ""),
      enter(before.get("kept")?.address ?? ""),
    ]);

    await first.stop();
    await expect
      .poll(async () => (await serverOf(client))?.health?.cause, PATIENCE)
      .toBe(Server_Health_Cause.RESTARTING);
    await client.conferences.endConference({ conferenceId: "over" });
    ann.socket.send("nobody noticed");
    await expect.poll(() => bob.heard, PATIENCE).toEqual(["nobody noticed"]);

    const second = await serveAgent(endpoint, { roomServer: control });
    await expect.poll(() => hostedBy(second.value), PATIENCE).toEqual(["kept"]);
    await expect.poll(async () => (await serverOf(client))?.state, PATIENCE).toBe(Server_State.UP);
    expect((await serverOf(client))?.incarnation).toBe(incarnation);
    expect((await table(client)).get("kept")?.epoch).toBe(before.get("kept")?.epoch);
    bob.socket.send("still here");
    await expect.poll(() => ann.heard, PATIENCE).toEqual(["still here"]);
    expect(ann.closeCode()).toBeUndefined();
    await client.conferences.endConference({ conferenceId: "kept" });
    await expect.poll(() => ann.closeCode(), PATIENCE).toBe(4001);
  });

  test("begins another life with it, and everything is placed anew (I3)", async () => {
    const { value: endpoint } = await serve();
    const client = connect(endpoint);
    const rooms = await serveRooms();
    await serveAgent(endpoint, { roomServer: rooms.value });
    await dispatch(endpoint);
    await schedule(client, ["a"]);
    const before = (await placed(client, ["a"])).get("a");
    await rooms.stop();
    await serveRooms(rooms.value);
    const now = await placedAnew(client, before);
    expect(now?.incarnation).toBeGreaterThan(before?.incarnation ?? 0n);
    await enter(now?.address ?? "");
  });
});

describe("an agent that hears nobody", () => {
  const detection = compileDetection({ probeTimeoutMs: 200, probeRetryMs: 10, timeouts: 1, settleMs: 0 });

  test("ends its conferences in time, and they are placed anew when the control plane is back (I2, I3)", async () => {
    const { plane, client, dispatcher, before, ann } = await hostingOne(detection);
    await dispatcher.stop();
    const cutMs = performance.now();
    await plane.stop();
    await expect.poll(() => ann.closeCode(), PATIENCE).toBe(4001);
    // What was heard last may be as old as a third of the time: then the agent asked.
    expect(performance.now() - cutMs).toBeGreaterThan(isolationMs(detection) / 2);

    await serve(plane.value, detection);
    await dispatch(plane.value);
    const now = await placedAnew(client, before);
    expect(now?.incarnation).toBeGreaterThan(before?.incarnation ?? 0n);
    await enter(now?.address ?? "");
  });

  test("goes on under `keep`", async () => {
    const { plane, agent, dispatcher, before, ann } = await hostingOne(detection, { isolation: "keep" });
    const bob = await enter(before?.address ?? "");
    await dispatcher.stop();
    await plane.stop();
    await new Promise((resolve) => setTimeout(resolve, 2 * isolationMs(detection)));
    ann.socket.send("still here");
    await expect.poll(() => bob.heard, PATIENCE).toEqual(["still here"]);
    expect(await hostedBy(agent.value)).toEqual(["a"]);
  });

  test("asks the control plane when no dispatcher is there to probe it, and goes on", async () => {
    const { client, dispatcher, before, ann } = await hostingOne(detection);
    await dispatcher.stop();
    await new Promise((resolve) => setTimeout(resolve, 2 * isolationMs(detection)));
    expect(ann.closeCode()).toBeUndefined();
    expect((await table(client)).get("a")?.epoch).toBe(before?.epoch);
  });
});

describe("an agent that is asked to stop by a drain", () => {
  const ids = Array.from({ length: 20 }, (_, index) => `c${String(index).padStart(2, "0")}`);

  test("ends once all is elsewhere, leaves nothing behind, and comes back open", async () => {
    const { value: endpoint } = await serve();
    const client = connect(endpoint);
    const first = await serveAgent(endpoint, { moveLingerMs: 1_000 });
    await dispatch(endpoint);
    await schedule(client, ids);
    const before = await placed(client, ids);
    const second = await serveAgent(endpoint, { id: "s2" });
    const ann = await enter(before.get("c00")?.address ?? "");
    first.drain();
    await expect.poll(async () => (await table(client)).get("c00")?.serverId, PATIENCE).toBe("s2");
    expect(ann.closeCode()).toBeUndefined();
    await first.over;
    expect(ann.closeCode()).toBe(4001);
    await placed(client, ids, "s2");
    expect(await hostedBy(second.value)).toEqual(ids);
    const { conferences } = await client.conferences.listConferences({ pageSize: 100 });
    expect(new Set(conferences.map(({ state }) => state))).toEqual(new Set([Conference_State.ACTIVE]));
    const { servers } = await client.servers.listServers({});
    expect(servers.map(({ serverId }) => serverId)).toEqual(["s2"]);

    await serveAgent(endpoint);
    await expect
      .poll(async () => (await serverOf(client).catch(() => undefined))?.cordoned, PATIENCE)
      .toBe(false);
  });

  test("stops all the same when the time is up, or when it is asked again", async () => {
    const { value: endpoint } = await serve();
    const client = connect(endpoint);
    const alone = await serveAgent(endpoint, { drainTimeoutMs: 500 });
    await dispatch(endpoint);
    await schedule(client, ["a"]);
    await placed(client, ["a"]);
    alone.drain();
    await alone.over;

    const again = await serveAgent(endpoint, { id: "s2" });
    await placed(client, ["a"], "s2");
    again.drain();
    await expect.poll(async () => (await serverOf(client, "s2"))?.cordoned, PATIENCE).toBe(true);
    expect(await hostedBy(again.value)).toEqual(["a"]);
    await again.stop();
  });

  test("by an operator, ends when that drain is done, if so told", async () => {
    const { value: endpoint } = await serve();
    const client = connect(endpoint);
    const first = await serveAgent(endpoint, { exitWhenDrained: true, moveLingerMs: 0 });
    await dispatch(endpoint);
    await schedule(client, ids);
    await placed(client, ids);
    await serveAgent(endpoint, { id: "s2" });
    await client.servers.drainServer({ serverId: "s1" });
    await first.over;
    await placed(client, ids, "s2");
    expect((await serverOf(client))?.drain?.done).toBe(true);
  });
});
