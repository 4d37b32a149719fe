import type { Clock } from "../../common/clock.ts";
import { createPulse } from "../../common/pulse.ts";

/** What became of one kind of resource at one revision. */
export interface Change<E> {
  readonly revision: bigint;
  readonly events: readonly E[];
  /** Set when the events are the difference to the state at this earlier revision, and not what happened in between. */
  readonly since?: bigint;
}

/**
 * The newest changes, kept so that watches can resume, and read by every watcher at its own pace. It is the one buffer
 * of all of them: a watcher that falls behind what is kept has lost its place.
 */
export interface ChangeLog<E> {
  /** @param since for a difference: the earlier revision; who has seen more than that cannot use it */
  append(revision: bigint, events: readonly E[], since?: bigint): void;
  /** Everything up to this revision is known, changed or not. */
  progress(revision: bigint): void;
  /** Forgets what is kept: changes after `revision` can be resumed from. */
  restart(revision: bigint): void;
  /**
   * Yields what changed after `fromRevision`, then what changes. A batch without events tells how far it has come: once
   * when everything there was has been yielded, and every 10 s when nothing changes.
   * Ends when the signal aborts.
   * @throws {WatchLostError} when what comes next is no longer kept
   */
  follow(fromRevision: bigint, signal: AbortSignal): AsyncGenerator<Change<E>>;
}

/** A watcher's place is gone. */
export class WatchLostError extends Error {
  override readonly name = "WatchLostError";
  /** Whether it had been watching and fell behind, or came with a revision that is no longer kept. */
  readonly fellBehind: boolean;

  constructor(fellBehind: boolean) {
    super(fellBehind ? "the watcher fell behind" : "the revision is no longer kept");
    this.fellBehind = fellBehind;
  }
}

/** About a minute of a busy replica, and a few megabytes, since events share their content with the view. */
const DEFAULT_KEPT_EVENTS = 65_536;

/** Keeps the revision that an idle watcher would resume from well inside of what is kept. */
const PROGRESS_INTERVAL_MS = 10_000;

export function createChangeLog<E>(clock: Clock, keptEvents = DEFAULT_KEPT_EVENTS): ChangeLog<E> {
  let changes: Change<E>[] = [];
  /** How many changes were dropped from the front, so that places stay valid. */
  let dropped = 0;
  let events = 0;
  /** Changes after this revision are kept. */
  let floor = 0n;
  let known = 0n;
  const appended = createPulse(clock);

  /** The place of the first change after the revision. */
  const placeAfter = (revision: bigint) => {
    let low = 0;
    let high = changes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const change = changes[middle];
      if (change && change.revision <= revision) low = middle + 1;
      else high = middle;
    }
    return dropped + low;
  };

  return {
    append(revision, added, since) {
      changes.push(since === undefined ? { revision, events: added } : { revision, events: added, since });
      events += added.length;
      known = revision;
      let excess = 0;
      for (
        let change = changes[0];
        events > keptEvents && excess < changes.length - 1;
        change = changes[excess]
      ) {
        if (!change) break;
        events -= change.events.length;
        floor = change.revision;
        excess += 1;
      }
      if (excess > 0) {
        changes.splice(0, excess);
        dropped += excess;
      }
      appended.notify();
    },
    progress(revision) {
      known = revision;
    },
    restart(revision) {
      dropped += changes.length + 1;
      changes = [];
      events = 0;
      floor = revision;
      known = revision;
      appended.notify();
    },
    async *follow(fromRevision, signal) {
      if (fromRevision < floor) throw new WatchLostError(false);
      let place = placeAfter(fromRevision);
      let sent = fromRevision;
      let progressDue = true;
      while (!signal.aborted) {
        if (place < dropped) throw new WatchLostError(true);
        const change = changes[place - dropped];
        if (change) {
          place += 1;
          // Another replica may have handed out a revision that this one had yet to see.
          if (change.revision <= sent) continue;
          if (change.since !== undefined && change.since < sent) throw new WatchLostError(false);
          sent = change.revision;
          yield change;
        } else if (progressDue && known >= sent) {
          sent = known;
          progressDue = false;
          yield { revision: sent, events: [] };
        } else {
          progressDue = (await appended.next(signal, PROGRESS_INTERVAL_MS)) === "timeout" || progressDue;
        }
      }
    },
  };
}

/** Tells a log of the changes up to a revision; `since`, when they are a difference to an older state. */
export function publish<E>(
  log: ChangeLog<E>,
  revision: bigint,
  events: readonly E[],
  since: bigint | undefined,
) {
  // A difference without events says something, too: that nothing else can be told of what went on in between.
  if (events.length > 0 || since !== undefined) log.append(revision, events, since);
  else log.progress(revision);
}
