/** Pieces of work that run side by side and are all awaited; none is left alone with its error. */
export interface WorkGroup {
  /** Starts a piece. Its error goes to the group's `onFailure`. */
  start(work: () => Promise<void>): void;
  /** Resolves once nothing runs, pieces started meanwhile included. */
  settled(): Promise<void>;
}

export function createWorkGroup(onFailure: (error: unknown) => void): WorkGroup {
  const running = new Set<Promise<void>>();
  return {
    start(work) {
      const piece: Promise<void> = work()
        .catch(onFailure)
        .finally(() => running.delete(piece));
      running.add(piece);
    },
    async settled() {
      while (running.size > 0) await Promise.all(running);
    },
  };
}
