import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { parseAddress } from "../../../common/address.ts";
import { bindHttp } from "../../../common/http-port.ts";
import type { Logger } from "../../../common/logging.ts";
import {
  CONTROL_PATHS,
  ControlFormatError,
  readCall,
  readCaller,
  readHeartbeat,
  readStart,
  readStop,
} from "./control-protocol.ts";
import { isLoopbackHost } from "./loopback-host.ts";
import { LifeOverError, ReplacedError, type RoomBook } from "./room-book.ts";

export interface ControlServer extends AsyncDisposable {
  /** host:port as bound. */
  readonly address: string;
}

export interface ControlServerOptions {
  /** host:port on this machine; port 0 takes a free one. */
  readonly listen: string;
  readonly book: RoomBook;
  readonly logger: Logger;
}

/** A heartbeat with news of every conference of a large server. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

const CALL_TIMEOUT_MS = 5_000;

/**
 * Serves `control-protocol` to agents on this machine, and a GET of `/v1/health` to people. It has no credentials: whoever
 * runs programs on the machine may call it. Web pages may not, wherever their names lead, since it wants JSON declared as
 * such under a name of this machine.
 * @throws {Error} when the address cannot be bound, saying which and why
 */
export async function listenControl({ listen, book, logger }: ControlServerOptions): Promise<ControlServer> {
  type Handler = (body: unknown, signal: AbortSignal) => object | Promise<object>;
  const handlers = new Map<string, Handler>([
    [CONTROL_PATHS.takeOver, (body) => book.takeOver(readCaller(body))],
    [CONTROL_PATHS.heartbeat, (body, signal) => book.heartbeat(readHeartbeat(body), signal)],
    [CONTROL_PATHS.start, (body, signal) => book.start(readStart(body), signal)],
    [CONTROL_PATHS.stop, (body, signal) => book.stop(readStop(body), signal)],
    [CONTROL_PATHS.renew, (body, signal) => book.renew(readCall(body), signal)],
    [CONTROL_PATHS.leave, (body) => book.leave(readCall(body))],
  ]);

  async function answer(request: IncomingMessage): Promise<[status: number, body: object]> {
    const { url = "", method = "", headers } = request;
    if (!isOwnName(headers.host)) return [403, { error: "call it by an address of this machine" }];
    if (url === "/v1/health" && method === "GET")
      return [200, { instanceId: book.instanceId, rooms: book.roomCount, mayServe: book.mayServe() }];
    const handler = handlers.get(url);
    if (!handler) return [404, { error: "no such call" }];
    if (method !== "POST") return [405, { error: "calls are made with POST" }];
    if (headers["content-type"] !== "application/json") return [415, { error: "send application/json" }];
    try {
      return [200, await handler(JSON.parse(await readBody(request)), AbortSignal.timeout(CALL_TIMEOUT_MS))];
    } catch (err) {
      const error = err instanceof Error ? err.message : String(err);
      if (err instanceof LifeOverError) return [409, { error }];
      if (err instanceof ReplacedError) return [410, { error }];
      if (err instanceof ControlFormatError || err instanceof SyntaxError) return [400, { error }];
      logger.warn({ err, url }, "call of the agent failed");
      return [500, { error }];
    }
  }

  const server = createServer((request, response) => {
    void answer(request).then(([status, body]) => {
      response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
      response.end(`${JSON.stringify(body)}\n`);
    });
  });
  const address = await bindHttp(server, listen);
  server.on("error", (err) => logger.error({ err }, "control failed"));
  return {
    address,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Whether the Host header names this machine, and not what somebody's name server says of it. */
function isOwnName(host: string | undefined): boolean {
  try {
    return isLoopbackHost(parseAddress(host ?? "").host);
  } catch {
    return false;
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new ControlFormatError(`a call has at most ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
