/** The time of a simulated world. It stands still while anything happens, and then jumps to what is due next. */
export interface VirtualTime {
  /** Milliseconds since the world began. */
  readonly nowMs: number;
  /** Calls back once it is `atMs`; what is due at the same time goes in the order in which it was asked for. */
  at(atMs: number, callback: () => void): Scheduled;
  /**
   * Goes on until `untilMs`, letting everything that is in memory settle after each callback. Rejects with what a callback
   * or `afterEach` throws.
   *
   * @param afterEach called after each callback, once all has settled
   */
  run(untilMs: number, afterEach: () => void): Promise<void>;
  /** Calls back when the world is over, to let go of what nobody waits for any more. */
  onOver(listener: () => void): void;
  /** Ends the world: nothing that is to come does. */
  end(): void;
}

/** Something to come. */
export interface Scheduled {
  cancel(): void;
}

interface Entry extends Scheduled {
  readonly atMs: number;
  readonly order: number;
  callback: (() => void) | undefined;
}

export function createVirtualTime(): VirtualTime {
  const heap: Entry[] = [];
  let nowMs = 0;
  let orders = 0;
  const overListeners: (() => void)[] = [];

  function pushEntry(entry: Entry) {
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent] as Entry;
      if (isBefore(above, entry)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
  }

  function popEntry(): Entry | undefined {
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const child = right < heap.length && isBefore(heap[right] as Entry, heap[left] as Entry) ? right : left;
      const below = heap[child] as Entry;
      if (isBefore(last, below)) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
    return top;
  }

  /** The next callback that is due by then and was not cancelled. */
  function take(untilMs: number): (() => void) | undefined {
    for (let entry = heap[0]; entry && entry.atMs <= untilMs; entry = heap[0]) {
      popEntry();
      if (!entry.callback) continue;
      nowMs = entry.atMs;
      return entry.callback;
    }
    nowMs = untilMs;
    return undefined;
  }

  return {
    get nowMs() {
      return nowMs;
    },
    at(atMs, callback) {
      const entry: Entry = {
        atMs: Math.max(atMs, nowMs),
        order: orders++,
        callback,
        cancel() {
          entry.callback = undefined;
        },
      };
      pushEntry(entry);
      return entry;
    },
    onOver: (listener) => void overListeners.push(listener),
    end() {
      heap.length = 0;
      for (const listener of overListeners.splice(0)) listener();
      heap.length = 0;
    },
    run: (untilMs, afterEach) =>
      new Promise((resolve, reject) => {
        const step = () => {
          try {
            afterEach();
            const callback = take(untilMs);
            if (!callback) return resolve();
            callback();
          } catch (err) {
            return reject(err);
          }
          // Node.js runs what was put off to the next tick only after all microtasks, those that they add included: by
          // then everything in memory has settled, at a hundredth of the cost of a turn of the event loop.
          queueMicrotask(() => process.nextTick(step));
        };
        process.nextTick(step);
      }),
  };
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
