/**
 * The dispatchers that observe this server, and what they are worth once they have lost the control plane. One that has
 * lost it may be cut off together with this server, while the others have had the conferences moved. While more than half
 * of them have lost it and still probe, no majority is left elsewhere that could have done so.
 *
 * An observer is remembered until the control plane confirms the server and it has not been heard for long. While the
 * control plane is away nobody is forgotten: an observer that is not heard may well be where the control plane is.
 */
export interface Observers {
  /** One that has the control plane holds the dispatches valid. */
  seen(observer: string, atMs: number): void;
  /**
   * One that has lost the control plane held them valid when it did.
   * @returns since when a majority has said so, each of it at this time or later; undefined when there is none
   */
  lost(observer: string, atMs: number): number | undefined;
  /**
   * The control plane confirmed the server at this time: who has not been heard for `memoryMs` before is forgotten, and
   * nobody has lost the control plane until it says so again.
   */
  confirmed(atMs: number, memoryMs: number): void;
  /** Whether one of them has not been heard for so long; only the control plane can tell what that means. */
  anySilent(nowMs: number, silentMs: number): boolean;
  /** The server begins another life, of which nobody has said anything. */
  clear(): void;
}

interface Observer {
  heardMs: number;
  /** When it last said that it has lost the control plane; undefined since it had it again. */
  lostMs: number | undefined;
}

/** The most that the detection settings allow, so that callers with ever new names fill no memory. */
const MOST_OBSERVERS = 100;

export function createObservers(): Observers {
  const observers = new Map<string, Observer>();

  function forgetOldest() {
    const [oldest] = [...observers].reduce((a, b) => (b[1].heardMs < a[1].heardMs ? b : a));
    observers.delete(oldest);
  }

  return {
    seen(observer, atMs) {
      observers.set(observer, { heardMs: atMs, lostMs: undefined });
      if (observers.size > MOST_OBSERVERS) forgetOldest();
    },
    lost(observer, atMs) {
      // A stranger has never shown that it had the control plane, and may be anybody.
      const known = observers.get(observer);
      if (known) Object.assign(known, { heardMs: atMs, lostMs: atMs });
      const saidMs = [...observers.values()].flatMap(({ lostMs }) => lostMs ?? []);
      return saidMs.sort((a, b) => b - a)[Math.floor(observers.size / 2)];
    },
    confirmed(atMs, memoryMs) {
      for (const [observer, known] of observers) {
        if (known.heardMs < atMs - memoryMs) observers.delete(observer);
        known.lostMs = undefined;
      }
    },
    anySilent: (nowMs, silentMs) => [...observers.values()].some(({ heardMs }) => heardMs < nowMs - silentMs),
    clear: () => observers.clear(),
  };
}
