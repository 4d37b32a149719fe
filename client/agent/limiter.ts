/** Lets a limited number of pieces of work run at once; the others wait for their turn, first come first served. */
export interface Limiter {
  /** Resolves or rejects as the work does. */
  run<T>(work: () => Promise<T>): Promise<T>;
}

export function createLimiter(maxRunning: number): Limiter {
  let running = 0;
  const waiting: (() => void)[] = [];
  return {
    async run(work) {
      if (running < maxRunning) running++;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await work();
      } finally {
        // The slot is handed on, so that nobody who comes in between takes it.
        const next = waiting.shift();
        if (next) next();
        else running--;
      }
    },
  };
}

/** Maps the items with at most `parallelism` under way; the results come in the order of the items. */
export async function mapBounded<T, R>(
  items: readonly T[],
  parallelism: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const entries = items.entries();
  const worker = async () => {
    for (const [index, item] of entries) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(parallelism, items.length) }, worker));
  return results;
}
