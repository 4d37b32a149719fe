import { once } from "node:events";
import { pino } from "pino";
import { afterEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createLoopbackDriver, type LoopbackDriver, type LoopbackOptions } from "./loopback.ts";

const PATIENCE = { timeout: 30_000, interval: 5 };
const logger = pino({ level: "silent" });
const never = new AbortController().signal;
const opened: { driver?: LoopbackDriver; socket?: WebSocket }[] = [];

afterEach(async () => {
  for (const { driver, socket } of opened.splice(0).reverse()) {
    socket?.terminate();
    await driver?.close();
  }
});

async function openDriver(options: Partial<LoopbackOptions> = {}) {
  const driver = await createLoopbackDriver({ logger, ...options });
  opened.push({ driver });
  const start = async (conferenceId: string, dispatchEpoch = 1n) =>
    (await driver.start({ conferenceId, dispatchEpoch, weight: 1 }, never)).address;
  return { driver, start };
}

/** A participant that is let in; `next()` gives the messages it hears, one after the other. */
async function join(address: string, options: WebSocket.ClientOptions = {}) {
  const socket = new WebSocket(address, options);
  opened.push({ socket });
  const heard: (string | Buffer)[] = [];
  const waiting: ((message: string | Buffer) => void)[] = [];
  socket.on("message", (data: Buffer, binary) => {
    const message = binary ? data : data.toString();
    const waiter = waiting.shift();
    if (waiter) waiter(message);
    else heard.push(message);
  });
  const closed = once(socket, "close").then(([code, reason]) => ({ code, reason: String(reason) }));
  await once(socket, "open");
  const next = () =>
    new Promise<string | Buffer>((resolve) => {
      const message = heard.shift();
      if (message === undefined) waiting.push(resolve);
      else resolve(message);
    });
  return { socket, next, heard, closed };
}

/** The HTTP status that an attempt to join is refused with. */
async function refusal(address: string): Promise<number> {
  const socket = new WebSocket(address);
  opened.push({ socket });
  socket.on("error", () => {});
  const [, response] = await once(socket, "unexpected-response");
  response.resume();
  return response.statusCode;
}

const statusOf = (address: string) => fetch(address.replace("ws:", "http:"));

describe("a room", () => {
  test("relays what one participant sends to all the others, as it is", async () => {
    const { driver, start } = await openDriver();
    const address = await start("a");
    const [ann, bob, cem] = await Promise.all([join(address), join(address), join(address)]);
    ann.socket.send("good morning");
    ann.socket.send(Buffer.from([0, 255, 1]));
    for (const other of [bob, cem]) {
      expect(await other.next()).toBe("good morning");
      expect(await other.next()).toEqual(Buffer.from([0, 255, 1]));
    }
    bob.socket.send("and to you");
    expect(await ann.next()).toBe("and to you");
    expect(ann.heard).toEqual([]);
    expect(driver.participants("a")).toBe(3);
    expect(driver.participantCount).toBe(3);
  });

  test("hears nothing of the other rooms", async () => {
    const { start } = await openDriver();
    const [here, there] = [await start("a"), await start("b")];
    const [ann, bob, cem] = await Promise.all([join(here), join(here), join(there)]);
    ann.socket.send("only here");
    expect(await bob.next()).toBe("only here");
    cem.socket.ping();
    await once(cem.socket, "pong");
    expect(cem.heard).toEqual([]);
  });

  test("tells over plain HTTP how many are there", async () => {
    const { start, driver } = await openDriver();
    const address = await start("a");
    const ann = await join(address);
    expect(await (await statusOf(address)).json()).toEqual({ participants: 1 });
    ann.socket.close();
    await expect.poll(() => driver.participants("a"), PATIENCE).toBe(0);
    expect((await statusOf(`${address}x`)).status).toBe(403);
    expect((await statusOf(address.replace("/a?", "/b?"))).status).toBe(404);
    expect((await fetch(address.replace("ws:", "http:"), { method: "POST" })).status).toBe(405);
  });

  test("keeps participants and address under a higher epoch", async () => {
    const { start } = await openDriver();
    const address = await start("a", 1n);
    const [ann, bob] = await Promise.all([join(address), join(address)]);
    expect(await start("a", 2n)).toBe(address);
    ann.socket.send("still here?");
    expect(await bob.next()).toBe("still here?");
  });
});

describe("who may not join", () => {
  test("an unknown room is refused with 404, a wrong token with 403, before any WebSocket", async () => {
    const { start } = await openDriver();
    const address = await start("a");
    expect(await refusal(address.replace("/a?", "/b?"))).toBe(404);
    expect(await refusal(address.replace("/rooms/", "/"))).toBe(404);
    expect(await refusal(`${address}x`)).toBe(403);
    expect(await refusal(address.replace(/\?.*/, ""))).toBe(403);
  });

  test("an address of before is refused after the room was stopped and started again", async () => {
    const { driver, start } = await openDriver();
    const before = await start("a", 1n);
    await driver.stop("a", never);
    expect(await refusal(before)).toBe(404);
    const after = await start("a", 2n);
    expect(after).not.toBe(before);
    expect(await refusal(before)).toBe(403);
    await join(after);
  });
});

test("nothing is relayed and nobody let in while the rooms may not be served", async () => {
  let mayServe = true;
  const { driver, start } = await openDriver({ mayServe: () => mayServe });
  const address = await start("a");
  const [ann, bob] = await Promise.all([join(address), join(address)]);
  mayServe = false;
  ann.socket.send("unheard");
  // The pong comes after the message was taken in.
  ann.socket.ping();
  await once(ann.socket, "pong");
  expect(await refusal(address)).toBe(503);
  mayServe = true;
  ann.socket.send("heard");
  expect(await bob.next()).toBe("heard");
  expect(driver.participants("a")).toBe(2);
});

test("another life ends every room with code 4001 and begins without any", async () => {
  const { driver, start } = await openDriver();
  const before = driver.instanceId;
  const [ann, bob] = [await join(await start("a")), await join(await start("b"))];
  await driver.renew(never);
  expect(await Promise.all([ann.closed, bob.closed])).toMatchObject([{ code: 4001 }, { code: 4001 }]);
  expect(driver.instanceId).not.toBe(before);
  expect(driver.ended.aborted).toBe(false);
  await join(await start("a", 2n));
});

describe("who must leave", () => {
  test("everyone, with code 4001, when the room is stopped", async () => {
    const { driver, start } = await openDriver();
    const ann = await join(await start("a"));
    await driver.stop("a", never);
    expect(await ann.closed).toEqual({ code: 4001, reason: "conference moved or ended" });
    expect(driver.participantCount).toBe(0);
    await driver.stop("a", never);
  });

  test("one that sends too long a message, with code 1009, and nobody hears it", async () => {
    const { driver, start } = await openDriver({ maxMessageBytes: 100 });
    const address = await start("a");
    const [ann, bob] = await Promise.all([join(address), join(address)]);
    ann.socket.send("x".repeat(101));
    expect(await ann.closed).toMatchObject({ code: 1009 });
    await expect.poll(() => driver.participants("a"), PATIENCE).toBe(1);
    expect(bob.heard).toEqual([]);
  });

  test("one that takes in too little, while the others go on", async () => {
    const { driver, start } = await openDriver({ maxBufferedBytes: 64 * 1024 });
    const address = await start("a");
    const [ann, bob, slow] = await Promise.all([join(address), join(address), join(address)]);
    slow.socket.pause();
    const message = Buffer.alloc(32 * 1024);
    let sent = 0;
    // What the kernel buffers comes on top, a few megabytes at most.
    while (driver.participants("a") === 3 && sent < 4_096) {
      ann.socket.send(message);
      sent++;
      await bob.next();
    }
    expect(driver.participants("a")).toBe(2);
    slow.socket.resume();
    // It may hear why before it is cut off.
    expect([1013, 1006]).toContain((await slow.closed).code);
    ann.socket.send("still here?");
    expect(await bob.next()).toBe("still here?");
  });

  test("one that answers no ping until the next", async () => {
    const clock = createFakeClock();
    const { driver, start } = await openDriver({ clock, pingIntervalMs: 15_000 });
    const address = await start("a");
    const [alive, dead] = await Promise.all([join(address), join(address, { autoPong: false })]);
    const pinged = Promise.all([once(alive.socket, "ping"), once(dead.socket, "ping")]);
    await clock.advance(15_000);
    await pinged;
    // The pong goes out before this message, so it has arrived once the message is relayed.
    alive.socket.send("alive");
    await dead.next();
    const pingedAgain = once(alive.socket, "ping");
    await clock.advance(15_000);
    expect(await dead.closed).toMatchObject({ code: 1006 });
    await pingedAgain;
    await expect.poll(() => driver.participants("a"), PATIENCE).toBe(1);
  });

  test("everyone, with code 1001, when the driver is closed", async () => {
    const { driver, start } = await openDriver();
    const address = await start("a");
    const ann = await join(address);
    expect(await driver.healthy(never)).toEqual({ healthy: true });
    await driver.close();
    expect(await ann.closed).toMatchObject({ code: 1001 });
    expect(driver.ended.aborted).toBe(true);
    expect(await driver.healthy(never)).toMatchObject({ healthy: false });
    await expect(driver.start({ conferenceId: "b", dispatchEpoch: 1n, weight: 1 }, never)).rejects.toThrow();
    await expect(statusOf(address)).rejects.toThrow();
  });
});

describe("addresses", () => {
  test("participants are given the advertised host, and the bound port when none is named", async () => {
    const { driver, start } = await openDriver({ advertise: "rooms.example.org:0" });
    const url = new URL(await start("a"));
    expect(url.host).toBe(`rooms.example.org:${driver.address.split(":")[1]}`);
    const other = await openDriver({ advertise: "rooms.example.org:443" });
    expect(await other.start("a")).toContain("ws://rooms.example.org:443/rooms/a?token=");
  });

  test("a port that is taken is named in the error", async () => {
    const { driver } = await openDriver();
    await expect(createLoopbackDriver({ logger, listen: driver.address })).rejects.toThrow(
      `cannot listen on ${driver.address}`,
    );
  });

  test("each life of the server has a name of its own", async () => {
    const [one, two] = [await openDriver(), await openDriver()];
    expect(one.driver.instanceId).not.toBe(two.driver.instanceId);
  });
});
