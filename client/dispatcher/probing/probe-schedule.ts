import type { Clock, Timer } from "../../../common/clock.ts";

/** Says when each server is to be probed next, with one timer for all. */
export interface ProbeSchedule extends Disposable {
  /** How many are scheduled. */
  readonly size: number;
  /** Schedules the server's next probe, in place of one that is scheduled already. In the past: at once. */
  set(serverId: string, dueMs: number): void;
  delete(serverId: string): void;
}

interface Entry {
  readonly serverId: string;
  readonly dueMs: number;
}

/**
 * A heap by due time. An entry that was replaced stays in it until its time comes, and is then passed over, so that
 * changes cost no search.
 *
 * Everything that is due is handed out at once: nothing here bounds how many probes run, so that a process that is not
 * fast enough shows it as lag.
 *
 * @param due called with each server whose time has come, and that time on the monotonic clock
 */
export function createProbeSchedule(
  clock: Clock,
  due: (serverId: string, dueMs: number) => void,
): ProbeSchedule {
  const heap: Entry[] = [];
  const current = new Map<string, Entry>();
  let timer: Timer | undefined;
  let armedForMs = Number.POSITIVE_INFINITY;

  function arm() {
    const [first] = heap;
    if (!first || first.dueMs >= armedForMs) return;
    timer?.clear();
    armedForMs = first.dueMs;
    timer = clock.setTimer(run, Math.max(0, first.dueMs - clock.monotonicMs()));
  }

  function run() {
    timer = undefined;
    armedForMs = Number.POSITIVE_INFINITY;
    const nowMs = clock.monotonicMs();
    // Gathered first: what is scheduled meanwhile waits for the next turn, or a probe without delay would never end.
    const ready: Entry[] = [];
    for (let [first] = heap; first && first.dueMs <= nowMs; [first] = heap) {
      removeFirst(heap);
      if (current.get(first.serverId) !== first) continue;
      current.delete(first.serverId);
      ready.push(first);
    }
    for (const { serverId, dueMs } of ready) due(serverId, dueMs);
    arm();
  }

  return {
    get size() {
      return current.size;
    },
    set(serverId, dueMs) {
      const entry = { serverId, dueMs };
      current.set(serverId, entry);
      insert(heap, entry);
      arm();
    },
    delete(serverId) {
      current.delete(serverId);
    },
    [Symbol.dispose]() {
      timer?.clear();
      current.clear();
      heap.length = 0;
    },
  };
}

function insert(heap: Entry[], entry: Entry) {
  let at = heap.length;
  heap.push(entry);
  while (at > 0) {
    const parentAt = (at - 1) >> 1;
    const parent = heap[parentAt];
    if (!parent || parent.dueMs <= entry.dueMs) break;
    heap[at] = parent;
    at = parentAt;
  }
  heap[at] = entry;
}

function removeFirst(heap: Entry[]) {
  const last = heap.pop();
  if (!last || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let childAt = 2 * at + 1;
    let child = heap[childAt];
    const right = heap[childAt + 1];
    if (child && right && right.dueMs < child.dueMs) {
      childAt++;
      child = right;
    }
    if (!child || child.dueMs >= last.dueMs) break;
    heap[at] = child;
    at = childAt;
  }
  heap[at] = last;
}
