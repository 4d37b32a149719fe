/** Lets one in at a time, in order of asking. */
export interface Mutex {
  /** Waits for the turn; disposing of the lock gives it on. Rejects with the signal's reason. */
  acquire(signal?: AbortSignal): Promise<Disposable>;
}

export function createMutex(): Mutex {
  let tail: Promise<void> = Promise.resolve();
  return {
    async acquire(signal) {
      signal?.throwIfAborted();
      const previous = tail;
      const { promise, resolve } = Promise.withResolvers<void>();
      tail = previous.then(() => promise);
      const lock = { [Symbol.dispose]: resolve };
      if (!signal) {
        await previous;
        return lock;
      }
      const { promise: aborted, reject } = Promise.withResolvers<never>();
      const onAbort = () => reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        await Promise.race([previous, aborted]);
        return lock;
      } catch (err) {
        resolve();
        throw err;
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
  };
}
