import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "./seeded-random.ts";

export type Direction = "toServer" | "toClient";

export interface ProxyCounts {
  /** Connections taken, and connections reset at once because of `refuse`. */
  readonly accepted: number;
  readonly refused: number;
  /** Connections ended by the proxy, whatever asked for it. */
  readonly cut: number;
  /** Bytes passed on. */
  readonly toServer: number;
  readonly toClient: number;
}

/** A TCP proxy on loopback that does to connections what networks do. Faults apply to all connections unless said. */
export interface FaultProxy extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly address: string;
  readonly counts: ProxyCounts;
  /** How many connections are open. */
  readonly open: number;
  /** Ends all connections now, by a reset or an orderly end, and says how many. What is on the way is lost. */
  cut(how?: "reset" | "end"): number;
  /** From now on new connections are reset at once, or no longer. */
  refuse(refusing: boolean): void;
  /** Holds what is sent in a direction, on present and new connections. Nobody is told. */
  stall(direction: Direction): void;
  /** Lets what was held go on. Both directions when none is named. */
  resume(direction?: Direction): void;
  /** Each piece arrives this much later, and up to `jitterMs` more (from the seed). 0 turns it off. */
  delay(latencyMs: number, jitterMs?: number): void;
  /** Resets the connection on which the n-th byte from now on passes in a direction, behind that byte. */
  cutAfter(direction: Direction, bytes: number): void;
  /**
   * Lets the next request with these bytes in it through, and nothing back on its connection. Once `landed` resolves (say
   * when the server has done it, seen by another way) resets the connection, and resolves.
   */
  dropReplyTo(marker: string, landed: () => Promise<void>): Promise<void>;
}

export interface FaultProxyOptions {
  /** Where the server listens, `host:port`. */
  readonly target: string;
  /** For what is random. Default 1. */
  readonly seed?: number;
}

/** What one connection may hold on the way, in each direction. More stays with the sender. */
const HELD_BYTES = 256 * 1024;

interface Gate {
  readonly opened: Promise<void>;
  open(): void;
}

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  /** Set while the reply of a request on this connection is kept back. */
  muted: boolean;
}

interface Drop {
  readonly marker: Buffer;
  readonly hit: (link: Link) => void;
}

export async function startFaultProxy({ target, seed = 1 }: FaultProxyOptions): Promise<FaultProxy> {
  const random = seededRandom(seed);
  const links = new Set<Link>();
  const gates: Partial<Record<Direction, Gate>> = {};
  const quotas: Partial<Record<Direction, number>> = {};
  const counts = { accepted: 0, refused: 0, cut: 0, toServer: 0, toClient: 0 };
  const latency = { ms: 0, jitterMs: 0 };
  let refusing = false;
  let drop: Drop | undefined;

  const colon = target.lastIndexOf(":");
  const [host, port] = [target.slice(0, colon), Number(target.slice(colon + 1))];

  function end(link: Link, how: "reset" | "end") {
    if (!links.delete(link)) return;
    counts.cut += 1;
    for (const socket of [link.client, link.server]) {
      if (how === "reset") socket.resetAndDestroy();
      else socket.destroySoon();
    }
  }

  /** Passes a piece on, as much of it as the faults let through. */
  async function pass(link: Link, direction: Direction, piece: Buffer): Promise<void> {
    for (let gate = gates[direction]; gate; gate = gates[direction]) await gate.opened;
    if (direction === "toClient" && link.muted) return;
    const to = direction === "toServer" ? link.server : link.client;
    const quota = quotas[direction];
    if (quota !== undefined && piece.length >= quota) {
      delete quotas[direction];
      counts[direction] += quota;
      if (!to.destroyed) await new Promise<unknown>((resolve) => to.write(piece.subarray(0, quota), resolve));
      end(link, "reset");
      return;
    }
    if (quota !== undefined) quotas[direction] = quota - piece.length;
    if (to.destroyed) return;
    counts[direction] += piece.length;
    if (!to.write(piece)) await Promise.race([once(to, "drain"), once(to, "close")]);
  }

  async function pump(link: Link, direction: Direction): Promise<void> {
    const [from, to] = direction === "toServer" ? [link.client, link.server] : [link.server, link.client];
    let held = 0;
    let last = Promise.resolve();
    let tail: Buffer = Buffer.alloc(0);
    for await (const piece of from as AsyncIterable<Buffer>) {
      if (direction === "toServer" && drop) {
        const seen = Buffer.concat([tail, piece]);
        tail = seen.subarray(Math.max(0, seen.length - drop.marker.length + 1));
        if (seen.includes(drop.marker)) {
          const { hit } = drop;
          drop = undefined;
          link.muted = true;
          hit(link);
        }
      }
      const waitMs = latency.ms + latency.jitterMs * random();
      const due = waitMs > 0 ? sleep(waitMs) : undefined;
      held += piece.length;
      last = last.then(async () => {
        await due;
        await pass(link, direction, piece);
        held -= piece.length;
      });
      // A socket may break while nobody waits here; whoever waits next is told.
      last.catch(() => {});
      if (held >= HELD_BYTES) await last;
    }
    await last;
    to.end();
  }

  const listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    if (refusing) {
      counts.refused += 1;
      client.resetAndDestroy();
      return;
    }
    counts.accepted += 1;
    const server = connect({ host, port, allowHalfOpen: true, noDelay: true });
    const link: Link = { client, server, muted: false };
    links.add(link);
    // Whichever side breaks takes the other with it; orderly ends pass through the pumps.
    const broken = () => {
      links.delete(link);
      client.resetAndDestroy();
      server.resetAndDestroy();
    };
    for (const socket of [client, server]) socket.on("error", broken);
    Promise.all([pump(link, "toServer"), pump(link, "toClient")]).then(() => links.delete(link), broken);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const bound = listener.address();
  if (bound === null || typeof bound === "string") throw new Error("not a TCP address");

  const resume = (direction: Direction) => {
    const gate = gates[direction];
    delete gates[direction];
    gate?.open();
  };

  return {
    address: `127.0.0.1:${bound.port}`,
    counts,
    get open() {
      return links.size;
    },
    cut(how = "reset") {
      const all = [...links];
      for (const link of all) end(link, how);
      return all.length;
    },
    refuse(on) {
      refusing = on;
    },
    stall(direction) {
      const { promise, resolve } = Promise.withResolvers<void>();
      gates[direction] ??= { opened: promise, open: resolve };
    },
    resume(direction) {
      for (const each of direction ? [direction] : (["toServer", "toClient"] as const)) resume(each);
    },
    delay(latencyMs, jitterMs = 0) {
      Object.assign(latency, { ms: latencyMs, jitterMs });
    },
    cutAfter(direction, bytes) {
      quotas[direction] = bytes;
    },
    async dropReplyTo(marker, landed) {
      const { promise, resolve } = Promise.withResolvers<Link>();
      drop = { marker: Buffer.from(marker), hit: resolve };
      const link = await promise;
      await landed();
      end(link, "reset");
    },
    async [Symbol.asyncDispose]() {
      const closed = once(listener, "close");
      listener.close();
      for (const link of [...links]) end(link, "reset");
      resume("toServer");
      resume("toClient");
      await closed;
    },
  };
}
