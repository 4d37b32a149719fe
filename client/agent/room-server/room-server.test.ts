import { once } from "node:events";
import { request } from "node:http";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { createFakeClock, type FakeClock } from "../../../test/support/fake-clock.ts";
import type { Driver } from "../drivers/driver.ts";
import {
  createRoomServerDriver,
  HEARTBEAT_INTERVAL_MS,
  ReplacedError,
} from "../drivers/room-server-driver.ts";
import type { IsolationPolicy } from "../isolation.ts";
import { runRoomServer } from "./room-server.ts";

const logger = pino({ level: "silent" });
const never = new AbortController().signal;
const PATIENCE = { timeout: 30_000, interval: 5 };
const LEFT_MS = 5_000;

let stack: AsyncDisposableStack;
let clock: FakeClock;

beforeEach(() => {
  stack = new AsyncDisposableStack();
  clock = createFakeClock();
});

afterEach(async () => {
  await stack.disposeAsync();
  // Participants that are being dismissed have a timer until their connection is closed.
  await expect.poll(() => clock.pending, PATIENCE).toBe(0);
});

async function serveRooms(control = "127.0.0.1:0") {
  const abort = new AbortController();
  const listening = Promise.withResolvers<{ control: string; rooms: string }>();
  const options = { listen: "127.0.0.1:0", control };
  const finished = runRoomServer(options, { logger, clock, onListening: listening.resolve }, abort.signal);
  finished.catch(listening.reject);
  const stop = async () => {
    abort.abort();
    await finished;
  };
  stack.defer(stop);
  return { ...(await listening.promise), stop };
}

async function drive(control: string, { policy = "stop" as IsolationPolicy, leftMs = LEFT_MS } = {}) {
  const options = { control, fence: () => ({ policy, leftMs }), logger, clock };
  const driver = await createRoomServerDriver(options, never);
  stack.defer(() => driver.close());
  return driver;
}

const startOn = async (driver: Driver, conferenceId: string, dispatchEpoch = 7n, validUntilMs = 99_000) =>
  (await driver.start({ conferenceId, dispatchEpoch, weight: 3, validUntilMs }, never)).address;

async function join(address: string) {
  const socket = new WebSocket(address);
  stack.defer(() => socket.terminate());
  const heard: string[] = [];
  socket.on("message", (data) => heard.push(String(data)));
  const closed = once(socket, "close").then(([code]) => code as number);
  await once(socket, "open");
  return { socket, heard, closed };
}

/** Two participants of one room, who hear each other. */
async function meet(address: string) {
  const [ann, bob] = await Promise.all([join(address), join(address)]);
  const talk = async (text: string) => {
    ann.socket.send(text);
    await expect.poll(() => bob.heard, PATIENCE).toContain(text);
  };
  await talk("hello");
  return { ann, bob, talk };
}

describe("an agent that is restarted", () => {
  test("finds the rooms as they were, and participants notice nothing", async () => {
    const { control } = await serveRooms();
    const first = await drive(control);
    const address = await startOn(first, "a");
    await startOn(first, "b", 8n);
    await first.stop("b", never);
    const { ann, talk } = await meet(address);
    await first.close();
    await clock.advance(1_000);
    await talk("still here");

    const second = await drive(control);
    expect(second.instanceId).toBe(first.instanceId);
    const found = await second.hosted?.(never);
    expect(found?.rooms).toEqual([
      {
        conferenceId: "a",
        dispatchEpoch: 7n,
        weight: 3,
        validUntilMs: 99_000,
        address,
        startTimeMs: expect.any(Number),
      },
    ]);
    expect(found?.leftMs).toBe(LEFT_MS - 1_000);
    expect(await startOn(second, "a", 9n)).toBe(address);
    await second.stop("a", never);
    expect(await ann.closed).toBe(4001);
  });

  test("learns until when its conferences may run now", async () => {
    const { control } = await serveRooms();
    const first = await drive(control);
    await startOn(first, "a");
    first.extend?.("a", 123_000);
    await clock.advance(HEARTBEAT_INTERVAL_MS);
    // Answers come in order: the second heartbeat is sent once the first was answered.
    await expect
      .poll(async () => {
        await clock.advance(HEARTBEAT_INTERVAL_MS);
        return (await (await drive(control)).hosted?.(never))?.rooms[0]?.validUntilMs;
      }, PATIENCE)
      .toBe(123_000);
  });

  test("is obeyed from then on, and the one before is told", async () => {
    const { control } = await serveRooms();
    const first = await drive(control);
    const second = await drive(control);
    await expect(startOn(first, "a")).rejects.toThrow("another agent");
    expect(first.ended.reason).toBeInstanceOf(ReplacedError);
    expect(second.ended.aborted).toBe(false);
    await startOn(second, "a");
  });
});

describe("without an agent (I2: what was moved meanwhile must not go on)", () => {
  test("the rooms end when the time is over that the agent gave last, and another life begins", async () => {
    const { control } = await serveRooms();
    const first = await drive(control);
    const { ann, talk } = await meet(await startOn(first, "a"));
    await first.close();
    await clock.advance(LEFT_MS - 1);
    await talk("in time");
    await clock.advance(1_000);
    expect(await ann.closed).toBe(4001);
    const second = await drive(control);
    expect(second.instanceId).not.toBe(first.instanceId);
    expect((await second.hosted?.(never))?.rooms).toEqual([]);
  });

  test("heartbeats keep the rooms, whatever the time", async () => {
    const { control } = await serveRooms();
    const driver = await drive(control);
    const { talk } = await meet(await startOn(driver, "a"));
    for (let passedMs = 0; passedMs < 3 * LEFT_MS; passedMs += HEARTBEAT_INTERVAL_MS) {
      await clock.advance(HEARTBEAT_INTERVAL_MS);
      // The next heartbeat is armed once this one was answered, which takes real time.
      await expect.poll(() => driver.participants("a"), PATIENCE).toBe(2);
      await clock.armed(3);
    }
    await talk("still here");
  });

  test("an announced absence lasts as long as it was announced for", async () => {
    const { control } = await serveRooms();
    const driver = await drive(control);
    const { ann, talk } = await meet(await startOn(driver, "a"));
    await driver.leave?.(30_000, never);
    await driver.close();
    await clock.advance(29_000);
    await talk("in time");
    await clock.advance(2_000);
    expect(await ann.closed).toBe(4001);
  });

  test("under `keep` the rooms go on", async () => {
    const { control } = await serveRooms();
    const driver = await drive(control, { policy: "keep" });
    const { talk } = await meet(await startOn(driver, "a"));
    await driver.close();
    await clock.advance(60_000);
    await talk("still here");
    expect((await (await drive(control)).hosted?.(never))?.leftMs).toBeUndefined();
  });

  test("after a pause of the process nothing is relayed before the clock was looked at", async () => {
    const { control } = await serveRooms();
    const driver = await drive(control);
    const { ann, bob } = await meet(await startOn(driver, "a"));
    await driver.close();
    const { monotonicMs } = clock;
    clock.monotonicMs = () => monotonicMs() + LEFT_MS;
    ann.socket.send("from before the pause");
    expect(await Promise.all([ann.closed, bob.closed])).toEqual([4001, 4001]);
    expect(bob.heard).toEqual(["hello"]);
  });
});

describe("a room server that dies", () => {
  test("makes the server unhealthy at once, and another life ends the driver's", async () => {
    const first = await serveRooms();
    const driver = await drive(first.control);
    await startOn(driver, "a");
    expect(await driver.healthy(never)).toEqual({ healthy: true });
    await first.stop();
    const health = () => driver.healthy(never).then(({ healthy }) => healthy);
    await expect.poll(() => clock.advance(100).then(health), PATIENCE).toBe(false);
    expect(driver.ended.aborted).toBe(false);
    await serveRooms(first.control);
    const isOver = () => clock.advance(100).then(() => driver.ended.aborted);
    await expect.poll(isOver, PATIENCE).toBe(true);
    expect(driver.ended.reason).not.toBeInstanceOf(ReplacedError);
  });

  test("is waited for at first, and then named in the error", async () => {
    const { control, stop } = await serveRooms();
    await stop();
    const driving = drive(control);
    driving.catch(() => {});
    let settled = false;
    void driving.catch(() => {}).finally(() => (settled = true));
    await expect.poll(() => clock.advance(1_000).then(() => settled), PATIENCE).toBe(true);
    await expect(driving).rejects.toThrow(`no room server at ${control}`);
  });
});

test("a new life ends all rooms at once under the agent's eyes", async () => {
  const { control } = await serveRooms();
  const driver = await drive(control);
  const before = driver.instanceId;
  const { ann } = await meet(await startOn(driver, "a"));
  await driver.renew(never);
  expect(await ann.closed).toBe(4001);
  expect(driver.instanceId).not.toBe(before);
  expect(driver.ended.aborted).toBe(false);
  await startOn(driver, "a", 9n);
});

describe("calls that the control refuses", () => {
  const call = (control: string, path: string, headers: Record<string, string>, body = "{}") =>
    new Promise<number | undefined>((resolve, reject) => {
      const [host, port] = control.split(":");
      const sent = request({ host, port, path, method: "POST", headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on("error", reject);
      sent.end(body);
    });
  const json = { "content-type": "application/json" };

  test.each([
    [
      "from a web page under a name of its own",
      "/v1/take-over",
      { ...json, host: "evil.example:7600" },
      "{}",
      403,
    ],
    ["from a web page's form", "/v1/take-over", { "content-type": "text/plain" }, "{}", 415],
    ["unknown", "/v1/shutdown", json, "{}", 404],
    ["not JSON", "/v1/take-over", json, "{", 400],
    ["without an agent", "/v1/take-over", json, "{}", 400],
    [
      "with a bad fence",
      "/v1/stop",
      json,
      '{"agentId":"x","instanceId":"y","fence":{"policy":"never"}}',
      400,
    ],
  ])("%s", async (_, path, headers, body, status) => {
    const { control } = await serveRooms();
    expect(await call(control, path, headers, body)).toBe(status);
  });
});
