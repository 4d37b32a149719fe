import type { EpochLife } from "./epochs.ts";
import { type CallRecord, epochKey, type History, type Row, type WatchRecord } from "./history.ts";

/** Something that must not be. */
export interface Finding {
  readonly invariant: "I1" | "I2" | "I3" | "I4" | "I5" | "I7";
  readonly conferenceId?: string;
  readonly message: string;
}

/** A dispatch epoch of a conference belongs to one claim, and no client is told a lower one after a higher (I1, I2). */
export function checkDispatchEpochs(calls: readonly CallRecord[]): Finding[] {
  const findings: Finding[] = [];
  const owners = new Map<string, string>();
  const told = new Map<string, number>();
  for (const call of calls) {
    if (call.call !== "fetch") continue;
    for (const { conferenceId, dispatchEpoch } of call.args.tasks) {
      const claim = `${conferenceId} ${dispatchEpoch}`;
      const owner = epochKey(call.args);
      const other = owners.get(claim) ?? owner;
      owners.set(claim, owner);
      if (other !== owner) {
        const message = `dispatch epoch ${dispatchEpoch} was handed to ${other} and to ${owner}`;
        findings.push({ invariant: "I1", conferenceId, message });
      }
      const key = `${call.client} ${conferenceId}`;
      const before = told.get(key) ?? 0;
      told.set(key, Math.max(before, dispatchEpoch));
      if (dispatchEpoch < before) {
        const message = `${call.client} was handed dispatch epoch ${dispatchEpoch} after ${before}`;
        findings.push({ invariant: "I2", conferenceId, message });
      }
    }
  }
  return findings;
}

/** What began after somebody was told that its epoch is over must not succeed (I5). */
export function checkDeadEpochs(
  calls: readonly CallRecord[],
  lives: ReadonlyMap<string, EpochLife>,
): Finding[] {
  const findings: Finding[] = [];
  for (const call of calls) {
    if (call.call !== "commit" && call.call !== "release" && call.call !== "fetch") continue;
    const life = lives.get(epochKey(call.args));
    if (!life || call.invokedMs <= life.knownOverMs) continue;
    const done =
      call.call === "fetch"
        ? call.args.tasks
        : call.args.items.filter(
            (_, index) => call.outcome.kind === "ok" && call.outcome.result?.[index] === undefined,
          );
    for (const { conferenceId } of done) {
      const message = `${call.call} under ${epochKey(call.args)} succeeded at ${call.returnedMs.toFixed(0)} ms, known to be over since ${life.knownOverMs.toFixed(0)} ms`;
      findings.push({ invariant: "I5", conferenceId, message });
    }
  }
  return findings;
}

/** Shares told at one revision add up to one total and differ by at most one (I4). */
export function checkShares(calls: readonly CallRecord[]): Finding[] {
  const findings: Finding[] = [];
  const atRevision = new Map<number, { total: number; dispatcherCount: number; shares: number[] }>();
  for (const call of calls) {
    if (call.call !== "query" || call.outcome.kind !== "ok") continue;
    const { total, revision, dispatcherCount, rank, share } = call.outcome.result;
    const fair = Math.floor(total / dispatcherCount) + (rank < total % dispatcherCount ? 1 : 0);
    const known = atRevision.get(revision) ?? { total, dispatcherCount, shares: [] };
    atRevision.set(revision, known);
    known.shares[rank] = share;
    if (share !== fair || known.total !== total || known.dispatcherCount !== dispatcherCount) {
      const message = `at revision ${revision} rank ${rank} of ${dispatcherCount} was told ${share} of ${total}, another ${known.total} shared by ${known.dispatcherCount}; ${fair} is fair`;
      findings.push({ invariant: "I4", message });
    }
  }
  for (const [revision, { total, dispatcherCount, shares }] of atRevision) {
    const told = shares.filter((share) => share !== undefined);
    const sum = told.reduce((left, right) => left + right, 0);
    if (told.length < dispatcherCount || sum === total) continue;
    findings.push({
      invariant: "I4",
      message: `shares at revision ${revision} add up to ${sum} of ${total}`,
    });
  }
  return findings;
}

/** Each watch tells every change once, in order, and says the same as a listing at the same revision (I7). */
export function checkWatches({ calls, watches }: History): Finding[] {
  const findings: Finding[] = [];
  const listings = new Map<number, readonly Row[]>();
  for (const { call, outcome } of calls)
    if (call === "listDispatches" && outcome.kind === "ok" && outcome.result && "revision" in outcome.result)
      listings.set(outcome.result.revision, "rows" in outcome.result ? outcome.result.rows : []);
  // The last listing is made when all is quiet, so a watch that has told all ends with the same rows.
  const isOver = calls.some(({ call, outcome }) => call === "final" && outcome.kind === "ok");
  const last = isOver ? listings.get(Math.max(...listings.keys())) : undefined;
  for (const watcher of new Set(watches.map((record) => record.watcher))) {
    const follower = new Follower(watcher, listings, findings);
    for (const record of watches) if (record.watcher === watcher) follower.take(record);
    if (last) follower.end(last);
  }
  return findings;
}

/** Keeps the table as one watch tells it. */
class Follower {
  readonly #watcher: string;
  readonly #listings: ReadonlyMap<number, readonly Row[]>;
  readonly #findings: Finding[];
  #rows = new Map<string, Row>();
  /** The highest dispatch epoch told of a conference; kept across restarts, where it may be told again. */
  #told = new Map<string, number>();
  #revision = 0;

  constructor(watcher: string, listings: ReadonlyMap<number, readonly Row[]>, findings: Finding[]) {
    this.#watcher = watcher;
    this.#listings = listings;
    this.#findings = findings;
  }

  take(record: WatchRecord) {
    if (record.kind === "restart") {
      this.#rows = new Map();
      this.#revision = 0;
      return;
    }
    if (record.revision < this.#revision)
      this.#find(`went back from revision ${this.#revision} to ${record.revision}`);
    this.#revision = record.revision;
    for (const { type, existing, conferenceId, epoch, address } of record.events) {
      const row = this.#rows.get(conferenceId);
      const told = this.#told.get(conferenceId) ?? 0;
      if (type === "DELETE") {
        if (row?.epoch !== epoch) this.#find(`ended row ${epoch}, having told ${row?.epoch}`, conferenceId);
        this.#rows.delete(conferenceId);
        continue;
      }
      if (existing ? row || epoch < told : epoch <= told)
        this.#find(`told row ${epoch} after ${told}`, conferenceId);
      this.#told.set(conferenceId, Math.max(told, epoch));
      this.#rows.set(conferenceId, { conferenceId, epoch, address });
    }
    const listing = record.revision > 0 ? this.#listings.get(record.revision) : undefined;
    if (listing) this.end(listing);
  }

  /** Compares with what was listed. */
  end(listing: readonly Row[]) {
    const [told, listed] = [describe([...this.#rows.values()]), describe(listing)];
    if (told !== listed) this.#find(`says ${told} at revision ${this.#revision}, the listing ${listed}`);
  }

  #find(message: string, conferenceId?: string) {
    this.#findings.push({
      invariant: "I7",
      message: `watch ${this.#watcher}: ${message}`,
      ...(conferenceId ? { conferenceId } : {}),
    });
  }
}

function describe(rows: readonly Row[]): string {
  return rows
    .map(({ conferenceId, epoch, address }) => `${conferenceId}=${epoch} ${address}`)
    .sort()
    .join(", ");
}
