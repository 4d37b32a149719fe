/**
 * The newest revision that a caller has seen, in the header of a call; that of the view that answered, in the trailer of
 * the answer. A replica whose view is behind the caller's waits, so that no caller sees the past after the present,
 * whichever replicas its calls go to.
 */
export const REVISION_HEADER = "convoke-revision";

/** In the trailer of an answer that was read from a view whose store is lost: the last known state, not the present. */
export const STALE_HEADER = "convoke-stale";

/** The revision that a header says; undefined when there is none, or it is no revision. */
export function readRevision(text: string | null): bigint | undefined {
  return text !== null && /^[1-9]\d{0,18}$/.test(text) ? BigInt(text) : undefined;
}
