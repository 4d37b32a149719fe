import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { until, within } from "./deadline.ts";
import { startFaultProxy } from "./fault-proxy.ts";

/** A server that answers each piece with the same piece and counts what it was sent. */
async function startEcho() {
  const sockets = new Set<Socket>();
  const seen = { text: "", ended: 0 };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("data", (piece) => {
      seen.text += piece.toString();
      socket.write(piece);
    });
    socket.on("end", () => {
      seen.ended += 1;
      socket.end();
    });
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  return {
    seen,
    address: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function dial(address: string) {
  const socket = connect({ host: "127.0.0.1", port: Number(address.split(":")[1]), allowHalfOpen: true });
  const heard = { text: "", error: "", ended: false, closed: false };
  socket.on("data", (piece) => {
    heard.text += piece.toString();
  });
  socket.on("error", (err) => {
    heard.error = "code" in err ? String(err.code) : err.message;
  });
  socket.on("end", () => {
    heard.ended = true;
  });
  socket.on("close", () => {
    heard.closed = true;
  });
  return {
    heard,
    say: (text: string) => socket.write(text),
    end: () => socket.end(),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

describe("fault proxy", () => {
  it("passes bytes and ends both ways, and counts them", async () => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address });
    using client = dial(proxy.address);
    client.say("hello");
    await until("the echo", () => client.heard.text === "hello");
    client.end();
    await until("the end", () => client.heard.ended && echo.seen.ended === 1);
    await until("nothing is open", () => proxy.open === 0);
    expect(proxy.counts).toEqual({ accepted: 1, refused: 0, cut: 0, toServer: 5, toClient: 5 });
  });

  it.each([
    ["reset", "ECONNRESET"],
    ["end", ""],
  ] as const)("cuts all connections by %s", async (how, error) => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address });
    using first = dial(proxy.address);
    using second = dial(proxy.address);
    for (const client of [first, second]) client.say("a");
    await until("both echoes", () => first.heard.text === "a" && second.heard.text === "a");
    expect(proxy.cut(how)).toBe(2);
    await until("both have lost it", () => [first, second].every(({ heard: h }) => h.ended || h.closed));
    expect([first.heard.error, second.heard.error]).toEqual([error, error]);
    expect(proxy.counts.cut).toBe(2);
    using third = dial(proxy.address);
    third.say("b");
    await until("a new connection", () => third.heard.text === "b");
  });

  it("refuses new connections only", async () => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address });
    using old = dial(proxy.address);
    old.say("a");
    await until("the echo", () => old.heard.text === "a");
    proxy.refuse(true);
    using refused = dial(proxy.address);
    await until("the refusal", () => refused.heard.closed);
    expect(proxy.counts).toMatchObject({ accepted: 1, refused: 1 });
    old.say("b");
    await until("the old one goes on", () => old.heard.text === "ab");
    proxy.refuse(false);
    using fresh = dial(proxy.address);
    fresh.say("c");
    await until("a new one", () => fresh.heard.text === "c");
  });

  it("stalls one direction, loses nothing, and goes on", async () => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address });
    using client = dial(proxy.address);
    proxy.stall("toClient");
    client.say("question");
    await until("the server has it", () => echo.seen.text === "question");
    proxy.stall("toServer");
    client.say(", another");
    proxy.resume("toClient");
    await until("the first answer", () => client.heard.text === "question");
    expect(echo.seen.text).toBe("question");
    proxy.resume();
    await until("the second answer", () => client.heard.text === "question, another");
  });

  it("cuts behind the n-th byte", async () => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address });
    using client = dial(proxy.address);
    proxy.cutAfter("toServer", 7);
    client.say("0123");
    await until("the echo", () => client.heard.text === "0123");
    client.say("456789");
    await until("the cut", () => client.heard.closed);
    await until("seven bytes", () => echo.seen.text === "0123456");
    expect(proxy.counts).toMatchObject({ toServer: 7, cut: 1 });
  });

  it("drops the reply to the request with a marker, also one that comes in two pieces", async () => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address });
    using client = dial(proxy.address);
    using other = dial(proxy.address);
    client.say("before ");
    await until("the first echo", () => client.heard.text === "before ");
    const landed = () => until("it has landed", () => echo.seen.text.includes("the-marker"));
    const dropped = proxy.dropReplyTo("the-marker", landed);
    client.say("with the-ma");
    await until("the first piece", () => client.heard.text === "before with the-ma");
    client.say("rker in it");
    await within("the cut", dropped);
    await until("the client has lost it", () => client.heard.closed);
    expect(client.heard.text).toBe("before with the-ma");
    other.say("still here");
    await until("others are spared", () => other.heard.text === "still here");
  });

  it("delays by a varying time without reordering", async () => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.address, seed: 7 });
    proxy.delay(5, 40);
    using client = dial(proxy.address);
    let said = "";
    for (let index = 0; index < 20; index++) {
      client.say(`<${index}>`);
      said += `<${index}>`;
      // Pieces of their own: the kernel would join what is said in one turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until("all of it", () => client.heard.text === said);
  });
});
