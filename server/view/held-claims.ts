import type { ConferenceEntry } from "./conference-entry.ts";

/** What dispatchers hold by valid claims and have yet to place. */
export class HeldClaims {
  readonly #byDispatcher = new Map<string, Set<ConferenceEntry>>();
  #units = 0;
  #moves = 0;

  of(dispatcherId: string): ReadonlySet<ConferenceEntry> {
    return this.#byDispatcher.get(dispatcherId) ?? NONE;
  }

  /** The units of all. */
  get units(): number {
    return this.#units;
  }

  /** How many are to be moved from one server to another. */
  get moves(): number {
    return this.#moves;
  }

  add(entry: ConferenceEntry): void {
    if (!entry.claim) return;
    const { dispatcherId } = entry.claim;
    const held = this.#byDispatcher.get(dispatcherId) ?? new Set();
    this.#byDispatcher.set(dispatcherId, held.add(entry));
    this.#count(entry, 1);
  }

  /** One that is not held is passed over. */
  remove(entry: ConferenceEntry): void {
    const dispatcherId = entry.claim?.dispatcherId ?? "";
    const held = this.#byDispatcher.get(dispatcherId);
    if (!held?.delete(entry)) return;
    if (held.size === 0) this.#byDispatcher.delete(dispatcherId);
    this.#count(entry, -1);
  }

  #count({ conference }: ConferenceEntry, by: 1 | -1) {
    this.#units += by * conference.weight;
    if (conference.dispatch) this.#moves += by;
  }
}

const NONE: ReadonlySet<ConferenceEntry> = new Set();
