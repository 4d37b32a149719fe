import { type Backoff, createBackoff } from "../../common/backoff.ts";
import type { Clock } from "../../common/clock.ts";
import type { Server } from "../../proto/gen/convoke/v1/server_pb.js";
import type { ServerEvent } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import type { AgentClient } from "../transport/client.ts";
import { createAgentPool } from "./agent-pool.ts";
import type { PlaceableServer, Reach } from "./candidates.ts";
import { createReservations, type Hold, type Reservations } from "./reservations.ts";

/** What this dispatcher knows of the conference servers. */
export interface ServerTable extends Disposable {
  /** Whether the servers have ever been listed; before that, an empty table says nothing. */
  readonly loaded: boolean;
  /**
   * The servers as placement sees them now, in no particular order.
   * @param reach how a server answers this dispatcher's own probes; without it, all answer
   */
  placeable(reach?: (serverId: string) => Reach): PlaceableServer[];
  /** A client of the server's agent; undefined when this life of the server is not known or has no usable address. */
  agent(serverId: string, incarnation: bigint): AgentClient | undefined;
  /** The same on a new connection: for one that is broken and waits before it connects again. */
  renewedAgent(serverId: string, incarnation: bigint): AgentClient | undefined;
  /** The server as the control plane has it; undefined when it is not known. */
  get(serverId: string): Server | undefined;
  /** The IDs of all servers. */
  ids(): Iterable<string>;
  /** Calls back with each server that appears, goes, or changes in state, incarnation or address; gives what ends that. */
  onChange(listener: (serverId: string) => void): () => void;
  /** Sets units aside on this life of the server. */
  hold(serverId: string, incarnation: bigint, units: number): Hold;
  /** Gives the server a rest, longer with each failure in a row. */
  startFailed(serverId: string): void;
  /** Ends the row of failures. */
  startSucceeded(serverId: string): void;
  /**
   * Takes over all servers there are, and forgets the others. What was read at an older revision than the table has is
   * ignored, unless it is a resync: revisions may begin anew when the control plane has lost its store.
   */
  replaceAll(
    servers: readonly ListedServer[],
    options: { readonly revision: bigint; readonly resync: boolean },
  ): void;
  /** Takes over a change. */
  apply(event: ServerEvent, revision: bigint): void;
}

/** A server, and the revision at which it was read. */
export interface ListedServer {
  readonly server: Server;
  readonly revision: bigint;
}

interface Entry {
  server: Server;
  /** At which revision `server` was read: what is older is ignored. */
  revision: bigint;
  reservations: Reservations;
  readonly penalty: Backoff;
  restsUntilMs: number;
}

/** A server whose agent failed once is back soon; one that keeps failing costs one try in half a minute. */
const PENALTY = { initialMs: 500, maxMs: 30_000 };

export interface ServerTableOptions {
  readonly clock: Clock;
  readonly connectAgent: (address: string) => AgentClient;
  /** In [0, 1); Math.random by default. */
  readonly random?: () => number;
}

export function createServerTable(options: ServerTableOptions): ServerTable {
  const { clock, connectAgent, random = Math.random } = options;
  const entries = new Map<string, Entry>();
  const agents = createAgentPool(connectAgent);
  const listeners = new Set<(serverId: string) => void>();
  let loaded = false;

  function changed(serverId: string) {
    for (const listener of listeners) listener(serverId);
  }

  function put(server: Server, revision: bigint, figures: boolean) {
    const { serverId, incarnation, reservedUnits } = server;
    const entry = entries.get(serverId);
    if (!entry) {
      entries.set(serverId, {
        server,
        revision,
        reservations: createReservations(reservedUnits),
        penalty: createBackoff({ ...PENALTY, random }),
        restsUntilMs: 0,
      });
      return changed(serverId);
    }
    if (revision < entry.revision) return;
    const before = entry.server;
    if (incarnation !== entry.server.incarnation) {
      // Another life: what was placed on the one before is void, and so is what we held against it.
      entry.reservations = createReservations(reservedUnits);
      entry.penalty.reset();
      entry.restsUntilMs = 0;
    } else if (figures) entry.reservations.refresh(reservedUnits, revision);
    entry.server = server;
    entry.revision = revision;
    const same =
      before.incarnation === incarnation &&
      before.state === server.state &&
      before.agentAddress === server.agentAddress;
    if (!same) changed(serverId);
  }

  function remove(serverId: string) {
    entries.delete(serverId);
    agents.drop(serverId);
    changed(serverId);
  }

  const current = (serverId: string, incarnation: bigint) => {
    const entry = entries.get(serverId);
    return entry?.server.incarnation === incarnation ? entry : undefined;
  };

  function agent(serverId: string, incarnation: bigint): AgentClient | undefined {
    const entry = current(serverId, incarnation);
    if (!entry) return undefined;
    try {
      return agents.get(serverId, entry.server.agentAddress);
    } catch (err) {
      if (err instanceof TypeError) return undefined;
      throw err;
    }
  }

  return {
    get loaded() {
      return loaded;
    },
    get: (serverId) => entries.get(serverId)?.server,
    ids: () => entries.keys(),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    placeable(reach = () => "answers") {
      const nowMs = clock.monotonicMs();
      return [...entries.values()].map(({ server, reservations, restsUntilMs }) => ({
        serverId: server.serverId,
        incarnation: server.incarnation,
        state: server.state,
        cordoned: server.cordoned,
        penalised: nowMs < restsUntilMs,
        reach: reach(server.serverId),
        region: server.region,
        labels: server.labels,
        capacity: server.capacity,
        reservedUnits: reservations.units,
        ownUnits: reservations.heldUnits,
      }));
    },
    agent,
    renewedAgent(serverId, incarnation) {
      if (!current(serverId, incarnation)) return undefined;
      agents.drop(serverId);
      return agent(serverId, incarnation);
    },
    hold(serverId, incarnation, units) {
      const entry = current(serverId, incarnation);
      return (entry?.reservations ?? createReservations(0)).hold(units);
    },
    startFailed(serverId) {
      const entry = entries.get(serverId);
      if (entry) entry.restsUntilMs = clock.monotonicMs() + entry.penalty.nextMs();
    },
    startSucceeded(serverId) {
      entries.get(serverId)?.penalty.reset();
    },
    replaceAll(servers, { revision, resync }) {
      const named = new Set(servers.map(({ server }) => server.serverId));
      for (const [serverId, entry] of entries) {
        if (resync) entry.revision = 0n;
        if (!named.has(serverId) && entry.revision <= revision) remove(serverId);
      }
      for (const { server, revision: readAt } of servers) put(server, readAt, true);
      loaded = true;
    },
    apply({ type, server }, revision) {
      if (!server) return;
      // The figures of an event are those at the time of sending, of which its revision says nothing.
      if (type === EventType.PUT) put(server, revision, false);
      const entry = entries.get(server.serverId);
      if (type === EventType.DELETE && entry && entry.revision <= revision) remove(server.serverId);
    },
    [Symbol.dispose]: () => agents[Symbol.dispose](),
  };
}
