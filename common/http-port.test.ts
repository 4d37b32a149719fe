import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { expect, test } from "vitest";
import { bindHttp } from "./http-port.ts";

async function close(server: Server) {
  const closed = once(server, "close");
  server.close();
  await closed;
}

test("a free port is told, with the host it was asked for", async () => {
  const server = createServer((_request, response) => response.end("here"));
  const address = await bindHttp(server, "127.0.0.1:0");
  expect(address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
  expect(await (await fetch(`http://${address}`)).text()).toBe("here");
  await close(server);
});

test("an address that is taken, or is none, is named", async () => {
  const first = createServer();
  const address = await bindHttp(first, "127.0.0.1:0");
  await expect(bindHttp(createServer(), address)).rejects.toThrow(`cannot listen on ${address}: `);
  await expect(bindHttp(createServer(), "nowhere")).rejects.toThrow("not an address");
  await close(first);
});
