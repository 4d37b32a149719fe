import { fromBinary } from "@bufbuild/protobuf";
import BTreeModule from "sorted-btree";
import type { Clock } from "../../common/clock.ts";
import { createPulse, type Pulse } from "../../common/pulse.ts";
import {
  BrakeRecordSchema,
  DispatcherRecordSchema,
  type RoundMember,
  RoundRecordSchema,
  ServerRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { DispatchEvent_Cause } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatcher } from "../../proto/gen/convoke/v1/dispatcher_pb.js";
import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import type { Keys } from "../store/keys.ts";
import type { KeyValue, StoreEvent } from "../store/store.ts";
import { type ChangeLog, createChangeLog, publish } from "./change-log.ts";
import {
  byStart,
  type ConferenceEntry,
  hasMoveClaim,
  isHeld,
  isPlaced,
  readConferenceEntry,
  type Status,
} from "./conference-entry.ts";
import { createDeal, type Deal } from "./deal.ts";
import { changeByServer, changeByWrite, type DispatchChange, rowGone } from "./dispatch-change.ts";
import { HeldClaims } from "./held-claims.ts";
import { type Hosting, Hostings } from "./hostings.ts";
import { Observations } from "./observations.ts";
import { timeKey } from "./time-key.ts";

// The package is CommonJS: its default export is one level deeper under Node's ESM, and not where a tool unwraps it.
const BTree = "default" in BTreeModule ? BTreeModule.default : (BTreeModule as never);

export interface DispatcherEntry {
  readonly dispatcher: Dispatcher;
  readonly epoch: bigint;
  readonly lease: bigint;
}

export interface ServerEntry {
  readonly server: Server;
  readonly modRevision: bigint;
}

export interface Round {
  readonly revision: bigint;
  readonly members: readonly RoundMember[];
  readonly windowMs: number;
}

export interface BrakeEntry {
  /** In milliseconds since 1970. */
  readonly releasedUntilMs: number;
  readonly modRevision: bigint;
}

export interface ResourceChange<T> {
  readonly type: EventType;
  readonly resource: T;
}

/**
 * A replica's picture of the store: everything decoded, with the indexes that decisions are made from. It changes only
 * by applying what the store says, in order of revisions, so two views at the same revision are equal.
 */
export class View {
  /** Everything up to this revision is in the view. */
  revision = 0n;
  /** The revision at which the registry of dispatchers last changed. */
  registryRevision = 0n;
  round: Round | undefined;
  /** Who is to take what of the round. */
  readonly deal: Deal = createDeal();
  /** What observers report of servers. */
  readonly observations = new Observations();
  /** What operators decided about the brake; its key's revision is 0n when nobody ever has. */
  brake: BrakeEntry = NOT_RELEASED;
  /** Live registrations. */
  readonly dispatchers = new BTree<string, DispatcherEntry>();
  readonly servers = new BTree<string, ServerEntry>();
  readonly conferences = new BTree<string, ConferenceEntry>();
  /** Those that wait to be claimed, in order of start, then ID. */
  readonly waiting = new BTree<string, ConferenceEntry>();
  /** Those that are not over in order of end; those that are, in order of their last write: what time will move on. */
  readonly unfinished = new BTree<string, ConferenceEntry>();
  readonly finished = new BTree<string, ConferenceEntry>();
  /** The servers that are being drained. */
  readonly draining = new Set<string>();
  /** The last revision at which a server got more room for new conferences. */
  roomRevision = 0n;
  /** Pulses with each change of anything, and when the view begins to follow the store again. */
  readonly changed: Pulse;
  readonly dispatchLog: ChangeLog<DispatchChange>;
  readonly dispatcherLog: ChangeLog<ResourceChange<Dispatcher>>;
  readonly serverLog: ChangeLog<ResourceChange<Server>>;
  readonly #keys: Keys;
  readonly #clock: Clock;
  readonly #reservations = new Map<string, bigint>();
  readonly #claims = new HeldClaims();
  readonly #hostings = new Hostings();
  readonly #taken = new Map<string, number>();
  #dispatchEvents: DispatchChange[] = [];

  constructor(keys: Keys, clock: Clock) {
    this.#keys = keys;
    this.#clock = clock;
    this.changed = createPulse(clock);
    this.dispatchLog = createChangeLog(clock);
    this.dispatcherLog = createChangeLog(clock);
    this.serverLog = createChangeLog(clock);
  }

  /** The conferences that a dispatcher holds by valid claims and has not placed yet. */
  claimsOf(dispatcherId: string): ReadonlySet<ConferenceEntry> {
    return this.#claims.of(dispatcherId);
  }

  /** How many conferences a dispatcher has taken in the current round and not lost, placed or not. */
  takenBy(dispatcherId: string): number {
    return this.#taken.get(dispatcherId) ?? 0;
  }

  hostingOf(serverId: string): Hosting {
    return this.#hostings.of(serverId);
  }

  /** The units that all servers together have free for new conferences, whatever is on its way to them. */
  get freeUnits(): number {
    return this.#hostings.freeUnits;
  }

  /** The units of what dispatchers hold by valid claims and have yet to place. */
  get heldUnits(): number {
    return this.#claims.units;
  }

  /** How many conferences dispatchers hold by valid claims to move them from one server to another. */
  get movesUnderWay(): number {
    return this.#claims.moves;
  }

  /** The revision of the server's reservation key; 0n when it has none. */
  reservationRevision(serverId: string): bigint {
    return this.#reservations.get(serverId) ?? 0n;
  }

  /**
   * Replaces everything by a listing. Watchers see the differences when the view had content before, and resume from
   * here on otherwise.
   */
  load(kvs: readonly KeyValue[], revision: bigint): void {
    const listed = new Set(kvs.map((kv) => kv.key));
    const gone: StoreEvent[] = [];
    for (const key of this.#knownKeys()) {
      if (!listed.has(key)) gone.push({ type: "delete", kv: deletion(key, revision) });
    }
    const changed = kvs.filter((kv) => this.#modRevisionOf(kv.key) !== kv.modRevision);
    // Claims and dispatches are judged by registrations, servers and the round, so these come first.
    const order = (kv: KeyValue) => (this.#keys.parse(kv.key)?.kind === "conference" ? 1 : 0);
    changed.sort((a, b) => order(a) - order(b));
    const first = this.revision === 0n;
    const since = this.revision;
    this.#applyAt([...gone, ...changed.map((kv): StoreEvent => ({ type: "put", kv }))], revision, since);
    if (first)
      for (const log of [this.dispatchLog, this.dispatcherLog, this.serverLog]) log.restart(revision);
  }

  /** Applies the events up to a revision, in order. What is already in the view is passed over. */
  apply(events: readonly StoreEvent[], revision: bigint): void {
    // One change for each revision: whoever watched through another replica may resume between any two.
    let group: StoreEvent[] = [];
    for (const event of events) {
      const last = group.at(-1)?.kv.modRevision;
      if (last !== undefined && last !== event.kv.modRevision) {
        this.#applyAt(group, last);
        group = [];
      }
      group.push(event);
    }
    this.#applyAt(group, group.at(-1)?.kv.modRevision ?? revision);
    this.#applyAt([], revision);
  }

  #applyAt(events: readonly StoreEvent[], revision: bigint, since?: bigint) {
    const dispatcherEvents: ResourceChange<Dispatcher>[] = [];
    const serverEvents: ResourceChange<Server>[] = [];
    for (const event of events) {
      if (event.kv.modRevision <= this.revision) continue;
      const parsed = this.#keys.parse(event.kv.key);
      if (!parsed) continue;
      if (parsed.kind === "conference") this.#applyConference(parsed.id, event);
      else if (parsed.kind === "dispatcher") this.#applyDispatcher(parsed.id, event, dispatcherEvents);
      else if (parsed.kind === "server") this.#applyServer(parsed.id, event, serverEvents);
      else if (parsed.kind === "reservation") this.#applyReservation(parsed.id, event);
      else if (parsed.kind === "observation") this.observations.applyObservation(parsed, event);
      else if (parsed.kind === "observer") this.observations.applyWithdrawal(parsed.id, event);
      else if (parsed.kind === "brake") this.#applyBrake(event);
      else this.#applyRound(event);
    }
    if (revision <= this.revision) return;
    this.revision = revision;
    if (this.#hostings.settle()) this.roomRevision = revision;
    publish(this.dispatchLog, revision, this.#dispatchEvents, since);
    publish(this.dispatcherLog, revision, dispatcherEvents, since);
    publish(this.serverLog, revision, serverEvents, since);
    this.#dispatchEvents = [];
    this.changed.notify();
  }

  #applyConference(id: string, event: StoreEvent) {
    const before = this.conferences.get(id);
    if (before) this.#unindex(before);
    if (event.type === "delete") {
      this.conferences.delete(id);
      if (before && isPlaced(before)) this.#tell(rowGone(before, DispatchEvent_Cause.ENDED));
      return;
    }
    const entry = readConferenceEntry(id, event.kv);
    entry.status = this.#statusOf(entry);
    // One that was moved in time falls to its dispatcher anew.
    const waitsOn = before?.status === "waiting" && before.startMs === entry.startMs;
    entry.waitingSinceMs = waitsOn ? before.waitingSinceMs : this.#clock.monotonicMs();
    this.conferences.set(id, entry);
    this.#index(entry);
    this.#tell(changeByWrite(before, entry));
  }

  #applyDispatcher(id: string, event: StoreEvent, events: ResourceChange<Dispatcher>[]) {
    const before = this.dispatchers.get(id);
    if (event.type === "delete") {
      if (!before) return;
      this.dispatchers.delete(id);
      events.push({ type: EventType.DELETE, resource: before.dispatcher });
    } else {
      const { dispatcher } = fromBinary(DispatcherRecordSchema, event.kv.value);
      if (!dispatcher) return;
      // A registration is written once, and replaced by the next; so the revision of the write tells them apart.
      dispatcher.epoch = event.kv.modRevision;
      this.dispatchers.set(id, { dispatcher, epoch: event.kv.modRevision, lease: event.kv.lease });
      events.push({ type: EventType.PUT, resource: dispatcher });
    }
    this.registryRevision = event.kv.modRevision;
    this.#rejudge(this.#claims.of(id));
  }

  #applyServer(id: string, event: StoreEvent, events: ResourceChange<Server>[]) {
    const before = this.servers.get(id);
    if (event.type === "delete") {
      if (!before) return;
      this.servers.delete(id);
      this.draining.delete(id);
      this.#hostings.setServer(id, undefined);
      events.push({ type: EventType.DELETE, resource: before.server });
    } else {
      const { server } = fromBinary(ServerRecordSchema, event.kv.value);
      if (!server) return;
      this.servers.set(id, { server, modRevision: event.kv.modRevision });
      if (server.drain) this.draining.add(id);
      else this.draining.delete(id);
      this.#hostings.setServer(id, server);
      events.push({ type: EventType.PUT, resource: server });
    }
    this.#rejudge(this.#hostings.of(id).named);
  }

  #applyReservation(serverId: string, event: StoreEvent) {
    if (event.type === "delete") this.#reservations.delete(serverId);
    else this.#reservations.set(serverId, event.kv.modRevision);
  }

  #applyBrake({ type, kv: { value, modRevision } }: StoreEvent) {
    if (type === "delete") this.brake = NOT_RELEASED;
    else {
      const { releasedUntilMs } = fromBinary(BrakeRecordSchema, value);
      this.brake = { releasedUntilMs: Number(releasedUntilMs), modRevision };
    }
  }

  #applyRound(event: StoreEvent) {
    const { members, windowMs } = fromBinary(RoundRecordSchema, event.kv.value);
    this.round = { revision: event.kv.modRevision, members, windowMs: Number(windowMs) };
    this.#taken.clear();
    const weights = members.map(
      ({ dispatcherId }) => this.dispatchers.get(dispatcherId)?.dispatcher.weight ?? 1,
    );
    const dueUntilMs = this.#dueUntilMs();
    const waiting = [...this.waiting.values()];
    this.deal.begin(
      weights,
      waiting.map(({ id, startMs }) => ({ id, isDue: startMs <= dueUntilMs })),
    );
  }

  #dueUntilMs() {
    return this.#clock.wallMs() + (this.round?.windowMs ?? 0);
  }

  #statusOf(entry: ConferenceEntry): Status {
    const { state, dispatch } = entry.conference;
    const holder = entry.claim && this.dispatchers.get(entry.claim.dispatcherId);
    const isClaimLive = holder !== undefined && holder.epoch === entry.claim?.dispatcherEpoch;
    if (state === Conference_State.SCHEDULED) return "waiting";
    if (state === Conference_State.CLAIMED) return isClaimLive ? "claimed" : "waiting";
    if (state !== Conference_State.ACTIVE) return "over";
    const host = dispatch && this.servers.get(dispatch.serverId)?.server;
    const isHosted =
      host !== undefined && host.incarnation === dispatch?.incarnation && host.state !== Server_State.DOWN;
    const isMoving = isClaimLive && hasMoveClaim(entry);
    if (isHosted) return isMoving ? "moving" : "active";
    return isMoving ? "claimed" : "waiting";
  }

  /** Looks again at conferences whose dispatcher or server has changed. Nothing is written: void is void. */
  #rejudge(entries: ReadonlySet<ConferenceEntry>) {
    // In one order everywhere, for what becomes due is dealt out in this order.
    for (const entry of [...entries].sort(byStart)) {
      const status = this.#statusOf(entry);
      if (status === entry.status) continue;
      const wasPlaced = isPlaced(entry);
      this.#unindex(entry);
      entry.status = status;
      entry.waitingSinceMs = this.#clock.monotonicMs();
      this.#index(entry);
      this.#tell(changeByServer(entry, wasPlaced));
    }
  }

  #index(entry: ConferenceEntry) {
    const { id, status, claim, conference } = entry;
    if (status === "over") {
      this.finished.set(timeKey(Number(conference.updateTime?.seconds ?? 0n) * 1000, id), entry);
    } else {
      this.unfinished.set(timeKey(entry.endMs, id), entry);
    }
    if (status === "waiting") {
      this.waiting.set(timeKey(entry.startMs, id), entry);
      this.deal.add({ id, isDue: entry.startMs <= this.#dueUntilMs() });
    }
    if (isHeld(entry)) this.#claims.add(entry);
    if (conference.state === Conference_State.ACTIVE && conference.dispatch)
      this.#hostings.add(entry, conference.dispatch.serverId);
    if (status !== "waiting" && claim && claim.round === this.round?.revision) {
      entry.countedFor = claim.dispatcherId;
      this.#taken.set(claim.dispatcherId, this.takenBy(claim.dispatcherId) + 1);
    }
  }

  #unindex(entry: ConferenceEntry) {
    const { id, claim, conference } = entry;
    this.finished.delete(timeKey(Number(conference.updateTime?.seconds ?? 0n) * 1000, id));
    this.unfinished.delete(timeKey(entry.endMs, id));
    this.waiting.delete(timeKey(entry.startMs, id));
    this.#claims.remove(entry);
    if (conference.dispatch) this.#hostings.remove(entry, conference.dispatch.serverId);
    if (entry.countedFor !== undefined && claim?.round === this.round?.revision) {
      this.#taken.set(entry.countedFor, this.takenBy(entry.countedFor) - 1);
    }
    entry.countedFor = undefined;
  }

  #tell(change: DispatchChange | undefined) {
    if (change) this.#dispatchEvents.push(change);
  }

  *#knownKeys() {
    for (const id of this.dispatchers.keys()) yield this.#keys.dispatcher(id);
    for (const id of this.servers.keys()) yield this.#keys.server(id);
    for (const id of this.#reservations.keys()) yield this.#keys.reservation(id);
    for (const id of this.conferences.keys()) yield this.#keys.conference(id);
    for (const serverId of this.observations.servers())
      for (const dispatcherId of this.observations.ofServer(serverId).keys())
        yield this.#keys.observation(serverId, dispatcherId);
    for (const id of this.observations.withdrawals()) yield this.#keys.observer(id);
    if (this.brake.modRevision > 0n) yield this.#keys.brake;
  }

  #modRevisionOf(key: string): bigint | undefined {
    const parsed = this.#keys.parse(key);
    if (!parsed) return undefined;
    if (parsed.kind === "conference") return this.conferences.get(parsed.id)?.modRevision;
    if (parsed.kind === "dispatcher") return this.dispatchers.get(parsed.id)?.epoch;
    if (parsed.kind === "server") return this.servers.get(parsed.id)?.modRevision;
    if (parsed.kind === "reservation") return this.#reservations.get(parsed.id);
    if (parsed.kind === "observation")
      return this.observations.ofServer(parsed.serverId).get(parsed.dispatcherId)?.modRevision;
    if (parsed.kind === "observer") return this.observations.withdrawalOf(parsed.id)?.modRevision;
    if (parsed.kind === "brake") return this.brake.modRevision;
    return this.round?.revision;
  }
}

const NOT_RELEASED: BrakeEntry = { releasedUntilMs: 0, modRevision: 0n };

function deletion(key: string, revision: bigint): KeyValue {
  return { key, value: new Uint8Array(), createRevision: 0n, modRevision: revision, version: 0n, lease: 0n };
}
