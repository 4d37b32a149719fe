import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { formatAddress, parseAddress } from "../../../common/address.ts";
import { type Clock, systemClock, type Timer } from "../../../common/clock.ts";
import { bindHttp } from "../../../common/http-port.ts";
import type { Logger } from "../../../common/logging.ts";
import type { Driver } from "./driver.ts";
import { CLOSE_TIMEOUT_MS, CloseCode, createLoopbackRoom, type LoopbackRoom } from "./loopback-room.ts";

export interface LoopbackOptions {
  /** host:port to serve rooms on. Default 127.0.0.1 and a free port. */
  readonly listen?: string;
  /** host:port that participants reach it under, where that is another; port 0 stands for the one listened on. */
  readonly advertise?: string;
  /** The longest message a participant may send, in bytes. Default 64 KiB. */
  readonly maxMessageBytes?: number;
  /** A participant with more than this many unsent bytes is disconnected with code 1013. Default 1 MiB. */
  readonly maxBufferedBytes?: number;
  /** A participant that does not answer a ping until the next one is disconnected. Default 15,000 ms. */
  readonly pingIntervalMs?: number;
  /**
   * Asked before each message is relayed and each participant let in, since a paused process may wake up long after its
   * rooms were moved. Default: always yes.
   */
  readonly mayServe?: () => boolean;
  readonly logger: Logger;
  /** Default: the system's. */
  readonly clock?: Clock;
}

export interface LoopbackDriver extends Driver {
  /** host:port that the rooms are served on. */
  readonly address: string;
}

/** Signalling messages and short texts fit many times over; media does not belong on a relay. */
const MAX_MESSAGE_BYTES = 64 * 1024;
/** About a second of a busy room: more means that the participant will not catch up. */
const MAX_BUFFERED_BYTES = 1024 * 1024;
/** Half of the 30 s after which common NATs and proxies forget an idle connection. */
const PING_INTERVAL_MS = 15_000;

/**
 * Hosts conferences in this process, as WebSocket rooms at `ws://host:port/rooms/<conference>?token=…`. Participants hear
 * what the others send, text or binary, and nothing else. A plain GET of the same URL tells how many are there. An unknown
 * room is answered with 404, a wrong or old token with 403, and with 503 who comes when the room is full or may not be served.
 * @throws {Error} when the address cannot be bound, saying which and why
 */
export async function createLoopbackDriver(options: LoopbackOptions): Promise<LoopbackDriver> {
  const { listen = "127.0.0.1:0", logger, clock = systemClock, mayServe = () => true } = options;
  const { pingIntervalMs = PING_INTERVAL_MS, maxBufferedBytes = MAX_BUFFERED_BYTES } = options;
  const rooms = new Map<string, LoopbackRoom>();
  let instanceId = randomUUID();
  const ended = new AbortController();
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: true,
    perMessageDeflate: false,
    maxPayload: options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
  });

  /** The room that a request may enter, or the HTTP status that it is refused with. */
  function roomFor(request: IncomingMessage): LoopbackRoom | number {
    if (request.method !== "GET") return 405;
    const url = URL.parse(request.url ?? "", "http://room");
    const conferenceId = url && /^\/rooms\/([^/]+)$/.exec(url.pathname)?.[1];
    const room = conferenceId ? rooms.get(conferenceId) : undefined;
    if (!url || !room) return 404;
    return room.admits(url.searchParams.get("token") ?? "") ? room : 403;
  }

  const server = createServer((request, response) => {
    const room = roomFor(request);
    const [status, body] =
      typeof room === "number"
        ? [room, { error: STATUS_CODES[room] }]
        : [200, { participants: room.participantCount }];
    response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(`${JSON.stringify(body)}\n`);
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", (err) => logger.debug({ err }, "participant's connection failed"));
    const room = roomFor(request);
    if (typeof room === "number") return refuse(socket, room);
    if (room.full || !mayServe()) return refuse(socket, 503);
    sockets.handleUpgrade(request, socket, head, (participant) => {
      participant.on("error", (err) => logger.debug({ err }, "participant broke the protocol"));
      room.join(participant);
    });
  });

  const address = await bindHttp(server, listen);
  server.on("error", (err) => ended.abort(err));
  const advertised = parseAddress(options.advertise || address);
  const authority = formatAddress(advertised.host, advertised.port || parseAddress(address).port);

  let timer: Timer;
  const armPing = () => {
    timer = clock.setTimer(() => {
      for (const room of rooms.values()) room.checkPeers();
      armPing();
    }, pingIntervalMs);
  };
  armPing();

  return {
    name: "loopback",
    get instanceId() {
      return instanceId;
    },
    ended: ended.signal,
    address,
    get participantCount() {
      let count = 0;
      for (const room of rooms.values()) count += room.participantCount;
      return count;
    },
    async start({ conferenceId }, signal) {
      signal.throwIfAborted();
      ended.signal.throwIfAborted();
      let room = rooms.get(conferenceId);
      if (!room) {
        room = createLoopbackRoom({ maxBufferedBytes, clock, mayServe });
        rooms.set(conferenceId, room);
      }
      return { address: `ws://${authority}/rooms/${conferenceId}?token=${room.token}` };
    },
    async stop(conferenceId) {
      rooms.get(conferenceId)?.close(CloseCode.conferenceGone, "conference moved or ended");
      rooms.delete(conferenceId);
    },
    async renew() {
      for (const room of rooms.values()) room.close(CloseCode.conferenceGone, "conference moved or ended");
      rooms.clear();
      instanceId = randomUUID();
    },
    participants: (conferenceId) => rooms.get(conferenceId)?.participantCount ?? 0,
    async healthy() {
      return server.listening
        ? { healthy: true }
        : { healthy: false, reason: "the port of the rooms is closed" };
    },
    async close() {
      timer.clear();
      ended.abort(new Error("the driver is closed"));
      for (const room of rooms.values()) room.close(CloseCode.goingAway, "the conference server stops");
      rooms.clear();
      const closed = server.listening ? once(server, "close") : undefined;
      server.close();
      server.closeIdleConnections();
      const cutOff = clock.setTimer(() => {
        for (const socket of sockets.clients) socket.terminate();
        server.closeAllConnections();
      }, CLOSE_TIMEOUT_MS);
      await closed;
      cutOff.clear();
    },
  };
}

function refuse(socket: Duplex, status: number) {
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
}
