/** How much happened, so that one sees that something did. Counted over a run, or over many. */
export interface Figures {
  /** Transactions that wrote. */
  revisions: number;
  /** Faults by their kind. */
  readonly faults: Record<string, number>;
  /** Conferences that were booked and acknowledged. */
  conferences: number;
  claims: number;
  dispatches: number;
  /** Dispatches of conferences that were elsewhere before: because the server was lost, or because it was drained. */
  movedFromLost: number;
  movedFromDrained: number;
  /** Servers that were declared DOWN, and those that were held by the brake. */
  down: number;
  held: number;
  /** New incarnations of servers that were known. */
  incarnations: number;
  /** Registrations of dispatchers that ended. */
  endedEpochs: number;
  reports: number;
  rounds: number;
}

export function createFigures(): Figures {
  return {
    revisions: 0,
    faults: {},
    conferences: 0,
    claims: 0,
    dispatches: 0,
    movedFromLost: 0,
    movedFromDrained: 0,
    down: 0,
    held: 0,
    incarnations: 0,
    endedEpochs: 0,
    reports: 0,
    rounds: 0,
  };
}

export function addFigures(sum: Figures, more: Figures): void {
  const { faults, ...counts } = more;
  for (const [kind, count] of Object.entries(faults)) sum.faults[kind] = (sum.faults[kind] ?? 0) + count;
  for (const [name, count] of Object.entries(counts)) {
    const key = name as Exclude<keyof Figures, "faults">;
    sum[key] += count;
  }
}
