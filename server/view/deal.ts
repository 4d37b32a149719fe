/**
 * To whom each conference of a round falls. Dealt once, in the order in which the store tells of them, and kept until
 * the round ends; so replicas whose views are at different revisions still agree on every conference they both know,
 * and two dispatchers that claim at once through different replicas do not meet.
 */
export interface Deal {
  /** The rank that a conference fell to; undefined when it was not dealt. */
  rankOf(id: string): number | undefined;
  /** Begins a round: deals out what waits, in order of start, those that are due first. */
  begin(weights: readonly number[], waiting: Iterable<DealtItem>): void;
  /** Deals a conference that has come up since; one that was dealt before stays where it fell. */
  add(item: DealtItem): void;
}

export interface DealtItem {
  readonly id: string;
  readonly isDue: boolean;
}

/** Deals nothing until the first round begins. */
export function createDeal(): Deal {
  const ranks = new Map<string, number>();
  let turns = createTurns([]);
  let laterTurns = turns;
  return {
    rankOf: (id) => ranks.get(id),
    begin(weights, waiting) {
      ranks.clear();
      turns = createTurns(weights);
      laterTurns = turns;
      // A closed round has no members.
      if (turns.size === 0) return;
      for (const { id, isDue } of waiting) {
        // What is not due counts for nobody yet, so its turns are not those of what comes and is due.
        if (!isDue && laterTurns === turns) laterTurns = turns.copy();
        ranks.set(id, (isDue ? turns : laterTurns).next());
      }
      if (laterTurns === turns) laterTurns = turns.copy();
    },
    add({ id, isDue }) {
      if (!ranks.has(id) && turns.size > 0) ranks.set(id, (isDue ? turns : laterTurns).next());
    },
  };
}

/** An endless sequence of ranks in which each comes as often as its weight says, as evenly spread as can be. */
interface Turns {
  readonly size: number;
  next(): number;
  copy(): Turns;
}

/**
 * Smooth weighted round-robin: each rank gains its weight, the one with the most takes the turn and pays the sum. With
 * equal weights it is 0, 1, … N-1, 0, …, so that of T turns rank r has exactly its fair share of T.
 */
function createTurns(weights: readonly number[], credits: number[] = weights.map(() => 0)): Turns {
  const sum = weights.reduce((a, b) => a + b, 0);
  return {
    size: weights.length,
    next() {
      let most = 0;
      for (const [rank, weight] of weights.entries()) {
        credits[rank] = (credits[rank] ?? 0) + weight;
        if ((credits[rank] ?? 0) > (credits[most] ?? 0)) most = rank;
      }
      credits[most] = (credits[most] ?? 0) - sum;
      return most;
    },
    copy: () => createTurns(weights, [...credits]),
  };
}
