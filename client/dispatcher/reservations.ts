/** Units set aside on a server by a placement that the control plane may not count yet. */
export interface Hold {
  /** The placement came to nothing. */
  release(): void;
  /** The placement was committed, known at this revision: figures from it or later count the units themselves. */
  committed(revision: bigint): void;
}

/** The reserved units of one life of a server: those the control plane counts and those only this dispatcher knows of. */
export interface Reservations {
  readonly units: number;
  /** Those that only this dispatcher knows of. */
  readonly heldUnits: number;
  hold(units: number): Hold;
  /** Takes over the control plane's figure as of a revision. */
  refresh(units: number, revision: bigint): void;
}

export function createReservations(units: number): Reservations {
  const holds = new Set<{ readonly units: number; committedAt?: bigint }>();
  let counted = units;
  let held = 0;
  return {
    get units() {
      return counted + held;
    },
    get heldUnits() {
      return held;
    },
    hold(more) {
      const entry: { readonly units: number; committedAt?: bigint } = { units: more };
      holds.add(entry);
      held += more;
      return {
        release() {
          if (holds.delete(entry)) held -= more;
        },
        committed(revision) {
          entry.committedAt = revision;
        },
      };
    },
    refresh(fresh, revision) {
      counted = fresh;
      for (const entry of holds) {
        if (entry.committedAt === undefined || entry.committedAt > revision) continue;
        holds.delete(entry);
        held -= entry.units;
      }
    },
  };
}
