/** Lease IDs by the time at which to look at them again, earliest first. A binary heap; an ID may be in it twice. */
export interface LeaseHeap {
  push(leaseId: bigint, atMs: number): void;
  /** The earliest time, or `undefined` when empty. */
  peekMs(): number | undefined;
  /** Takes the ID with the earliest time. */
  pop(): bigint | undefined;
  readonly size: number;
}

interface Entry {
  readonly leaseId: bigint;
  readonly atMs: number;
}

export function createLeaseHeap(): LeaseHeap {
  const entries: Entry[] = [];

  const timeAt = (index: number) => entries[index]?.atMs ?? Number.POSITIVE_INFINITY;

  function siftUp(entry: Entry) {
    let index = entries.length;
    entries.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = entries[parent];
      if (!above || above.atMs <= entry.atMs) break;
      entries[index] = above;
      index = parent;
    }
    entries[index] = entry;
  }

  function siftDown(entry: Entry) {
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      const child = timeAt(left + 1) < timeAt(left) ? left + 1 : left;
      const below = entries[child];
      if (!below || below.atMs >= entry.atMs) break;
      entries[index] = below;
      index = child;
    }
    entries[index] = entry;
  }

  return {
    push: (leaseId, atMs) => siftUp({ leaseId, atMs }),
    peekMs: () => entries[0]?.atMs,
    pop() {
      const top = entries[0];
      const last = entries.pop();
      if (last && entries.length > 0) siftDown(last);
      return top?.leaseId;
    },
    get size() {
      return entries.length;
    },
  };
}
