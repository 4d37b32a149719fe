import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { type ConferenceEntry, isPlaced } from "./conference-entry.ts";

/** What a server hosts by its valid dispatches, and what names it. */
export interface Hosting {
  readonly conferences: ReadonlySet<ConferenceEntry>;
  readonly reservedUnits: number;
  /** All conferences whose dispatch is on this server, be it void or not. */
  readonly named: ReadonlySet<ConferenceEntry>;
}

interface MutableHosting {
  readonly conferences: Set<ConferenceEntry>;
  reservedUnits: number;
  readonly named: Set<ConferenceEntry>;
}

/** Which server hosts what, and where there is room. */
export class Hostings {
  readonly #hostings = new Map<string, MutableHosting>();
  readonly #servers = new Map<string, Server>();
  /** What each server touched since the last `settle` had free before. */
  readonly #before = new Map<string, number>();
  #freeUnits = 0;

  /** The units that all servers together have free for new conferences. */
  get freeUnits(): number {
    return this.#freeUnits;
  }

  of(serverId: string): Hosting {
    return this.#hostings.get(serverId) ?? NO_HOSTING;
  }

  setServer(serverId: string, server: Server | undefined): void {
    this.#touch(serverId);
    if (server) this.#servers.set(serverId, server);
    else this.#servers.delete(serverId);
  }

  add(entry: ConferenceEntry, serverId: string): void {
    this.#touch(serverId);
    const hosting = this.#hostings.get(serverId) ?? newHosting();
    this.#hostings.set(serverId, hosting);
    hosting.named.add(entry);
    if (!isPlaced(entry)) return;
    hosting.conferences.add(entry);
    hosting.reservedUnits += entry.conference.weight;
  }

  remove(entry: ConferenceEntry, serverId: string): void {
    const hosting = this.#hostings.get(serverId);
    if (!hosting) return;
    this.#touch(serverId);
    if (hosting.conferences.delete(entry)) hosting.reservedUnits -= entry.conference.weight;
    if (hosting.named.delete(entry) && hosting.named.size === 0) this.#hostings.delete(serverId);
  }

  /** Counts what has changed since the last time; tells whether any server has more room than before. */
  settle(): boolean {
    let gained = false;
    for (const [serverId, before] of this.#before) {
      const after = this.#freeUnitsOf(serverId);
      this.#freeUnits += after - before;
      gained ||= after > before;
    }
    this.#before.clear();
    return gained;
  }

  #touch(serverId: string) {
    if (!this.#before.has(serverId)) this.#before.set(serverId, this.#freeUnitsOf(serverId));
  }

  #freeUnitsOf(serverId: string): number {
    const server = this.#servers.get(serverId);
    if (!server || server.cordoned || server.state !== Server_State.UP) return 0;
    return Math.max(0, server.capacity - this.of(serverId).reservedUnits);
  }
}

const NO_HOSTING: Hosting = newHosting();

function newHosting(): MutableHosting {
  return { conferences: new Set(), reservedUnits: 0, named: new Set() };
}
