import type { DemoState } from "./progress.ts";

/** What of a run is shown. */
export interface LiveState {
  phase: string;
  readonly total: number;
  readonly active: number;
  readonly dead: Set<string>;
  /** What was done to a conference server, such as `killed`. */
  readonly struck: Map<string, string>;
  put(conferenceId: string, dispatcherId: string, serverId: string): void;
  drop(conferenceId: string): void;
  /** Forgets all rows. */
  clear(): void;
  state(seconds: number): DemoState;
}

export function createLiveState(
  options: { readonly dispatchers: number; readonly servers: number },
  total: number,
): LiveState {
  const rows = new Map<string, { dispatcherId: string; serverId: string }>();
  const dead = new Set<string>();
  const struck = new Map<string, string>();
  const count = (key: "dispatcherId" | "serverId", id: string) => {
    let matching = 0;
    for (const row of rows.values()) if (row[key] === id) matching += 1;
    return matching;
  };
  return {
    phase: "",
    total,
    dead,
    struck,
    get active() {
      return rows.size;
    },
    put: (conferenceId, dispatcherId, serverId) => void rows.set(conferenceId, { dispatcherId, serverId }),
    drop: (conferenceId) => void rows.delete(conferenceId),
    clear: () => rows.clear(),
    state(seconds) {
      return {
        seconds,
        phase: this.phase,
        total,
        active: rows.size,
        dispatchers: names("d", options.dispatchers).map((id) => ({
          id,
          placed: count("dispatcherId", id),
          dead: dead.has(id),
        })),
        servers: names("s", options.servers).map((id) => ({
          id,
          hosted: count("serverId", id),
          struck: struck.get(id) ?? "",
        })),
      };
    },
  };
}

/** IDs of a kind: a letter and a number from 1. */
export function names(letter: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${letter}${index + 1}`);
}
