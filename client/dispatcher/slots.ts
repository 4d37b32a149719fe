/** Lets a bounded number of pieces of work run at once; the others wait their turn in order. */
export interface Slots {
  /** Runs the work in a slot. Rejects with the signal's reason when it aborts while waiting. */
  run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T>;
}

export function createSlots(count: number): Slots {
  const waiting = new Set<() => void>();
  let free = count;
  return {
    async run(signal, work) {
      signal.throwIfAborted();
      if (free > 0) free--;
      else await turn(signal);
      try {
        return await work();
      } finally {
        const [next] = waiting;
        if (next) next();
        else free++;
      }
    },
  };

  // The slot goes straight from one to the next, so that nobody who comes later slips in between.
  function turn(signal: AbortSignal) {
    return new Promise<void>((resolve, reject) => {
      const done = () => {
        waiting.delete(take);
        signal.removeEventListener("abort", give);
      };
      const take = () => {
        done();
        resolve();
      };
      const give = () => {
        done();
        reject(signal.reason);
      };
      waiting.add(take);
      signal.addEventListener("abort", give, { once: true });
    });
  }
}
