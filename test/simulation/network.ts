import type { SimulatedProcess } from "./simulated-process.ts";
import type { VirtualTime } from "./virtual-time.ts";

/**
 * The network between the nodes of a simulated world. Messages from one node to another come in the order in which they
 * were sent. Where the way is cut they wait, as TCP sends them again, and come late when it heals, or not at all.
 */
export interface Network {
  /** Delivers into a process; `refused` is called instead when it is not there any more. */
  send(from: string, to: SimulatedProcess, deliver: () => void, refused?: () => void): void;
  /** @param loses whether what is sent meanwhile is lost for good */
  cut(a: string, b: string, loses: boolean): void;
  heal(a: string, b: string): void;
  healAll(): void;
  isCut(a: string, b: string): boolean;
  /** When anything last came to a node: what was on its way when the way was cut still comes. */
  lastArrivalMs(to: string): number;
  /** Messages from `from` to `to` take so much longer from now on. */
  slow(from: string, to: string, byMs: number): void;
  /** Calls back when a way is cut. */
  onCut(listener: (a: string, b: string) => void): void;
  /** Calls back when a way heals on which something was lost, so that no connection over it is whole. */
  onReset(listener: (a: string, b: string) => void): void;
}

interface Link {
  /** When the last message arrives: none overtakes it. */
  lastMs: number;
  slowMs: number;
  held: (() => void)[];
}

const LEAST_LATENCY_MS = 0.2;
const LATENCY_SPREAD_MS = 2;

/** What waited for a way to heal comes in pieces, as TCP sends it again. */
const RESEND_SPREAD_MS = 30;

export function createNetwork(time: VirtualTime, random: () => number): Network {
  const links = new Map<string, Link>();
  const arrivals = new Map<string, number>();
  /** Whether the messages of each cut pair are lost. */
  const cuts = new Map<string, boolean>();
  const cutListeners: ((a: string, b: string) => void)[] = [];
  const resetListeners: ((a: string, b: string) => void)[] = [];

  const pairOf = (a: string, b: string) => (a < b ? `${a} ${b}` : `${b} ${a}`);

  function linkOf(from: string, to: string): Link {
    const key = `${from}>${to}`;
    const known = links.get(key);
    if (known) return known;
    const link = { lastMs: 0, slowMs: 0, held: [] };
    links.set(key, link);
    return link;
  }

  function carry(link: Link, arrive: () => void, extraMs = 0) {
    const latencyMs = LEAST_LATENCY_MS + LATENCY_SPREAD_MS * random() ** 2 + link.slowMs + extraMs;
    link.lastMs = Math.max(link.lastMs + extraMs, time.nowMs + latencyMs);
    time.at(link.lastMs, arrive);
  }

  function heal(a: string, b: string) {
    const loses = cuts.get(pairOf(a, b));
    if (loses === undefined) return;
    cuts.delete(pairOf(a, b));
    if (loses) for (const listener of resetListeners) listener(a, b);
    for (const link of [linkOf(a, b), linkOf(b, a)]) {
      for (const arrive of link.held.splice(0)) carry(link, arrive, RESEND_SPREAD_MS * random());
    }
  }

  return {
    send(from, to, deliver, refused) {
      const link = linkOf(from, to.name);
      const arrive = () => {
        arrivals.set(to.name, time.nowMs);
        if (to.state === "killed") refused?.();
        else to.enter(deliver);
      };
      const loses = cuts.get(pairOf(from, to.name));
      if (loses === undefined) carry(link, arrive);
      else if (!loses) link.held.push(arrive);
    },
    cut(a, b, loses) {
      cuts.set(pairOf(a, b), loses);
      for (const listener of cutListeners) listener(a, b);
    },
    heal,
    healAll() {
      for (const pair of [...cuts.keys()]) {
        const [a = "", b = ""] = pair.split(" ");
        heal(a, b);
      }
      for (const link of links.values()) link.slowMs = 0;
    },
    isCut: (a, b) => cuts.has(pairOf(a, b)),
    lastArrivalMs: (to) => arrivals.get(to) ?? Number.NEGATIVE_INFINITY,
    slow(from, to, byMs) {
      linkOf(from, to).slowMs = byMs;
    },
    onCut: (listener) => void cutListeners.push(listener),
    onReset: (listener) => void resetListeners.push(listener),
  };
}
