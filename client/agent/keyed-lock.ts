/** Runs work for the same key one after the other, in the order asked for; work for different keys overlaps. */
export interface KeyedLock {
  /**
   * Resolves or rejects as the work does.
   * @throws {LockBusyError} without doing the work, when too many wait for the key already
   */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

/** Too many wait for the key; nothing was done. */
export class LockBusyError extends Error {
  constructor(key: string) {
    super(`too many calls wait for ${key}`);
    this.name = "LockBusyError";
  }
}

/** @param maxQueued how many may hold or wait for one key */
export function createKeyedLock(maxQueued: number): KeyedLock {
  const queues = new Map<string, { length: number; tail: Promise<unknown> }>();
  return {
    async run(key, work) {
      const queue = queues.get(key) ?? { length: 0, tail: Promise.resolve() };
      if (queue.length >= maxQueued) throw new LockBusyError(key);
      queue.length++;
      queues.set(key, queue);
      const result = queue.tail.then(work);
      queue.tail = result.catch(() => {});
      try {
        return await result;
      } finally {
        if (--queue.length === 0) queues.delete(key);
      }
    },
  };
}
