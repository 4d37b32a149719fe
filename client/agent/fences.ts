/** Remembers, for each conference that was stopped or is elsewhere, the highest epoch that must not be started any more. */
export interface Fences {
  /** The fence of a conference; 0 when there is none. */
  get(conferenceId: string): bigint;
  /** Fences an epoch off; a higher fence stays. */
  raise(conferenceId: string, dispatchEpoch: bigint): void;
  /** Forgets a fence, once a higher epoch is hosted and fences by itself. */
  drop(conferenceId: string): void;
}

/**
 * A start that comes after its stop comes within the deadline of its call, seconds later. This many fences outlive that
 * at a thousand stops and placements a second, and take a few megabytes; the ones raised longest ago make room.
 */
export const FENCE_LIMIT = 65_536;

export function createFences(limit = FENCE_LIMIT): Fences {
  // A Map iterates in the order of insertion, so its first entry is the one raised longest ago.
  const fences = new Map<string, bigint>();
  return {
    get: (conferenceId) => fences.get(conferenceId) ?? 0n,
    raise(conferenceId, dispatchEpoch) {
      const current = fences.get(conferenceId) ?? 0n;
      fences.delete(conferenceId);
      fences.set(conferenceId, current > dispatchEpoch ? current : dispatchEpoch);
      if (fences.size <= limit) return;
      for (const oldest of fences.keys()) {
        fences.delete(oldest);
        break;
      }
    },
    drop: (conferenceId) => {
      fences.delete(conferenceId);
    },
  };
}
