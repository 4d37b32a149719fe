import { byStart, type ConferenceEntry, isLost } from "../view/conference-entry.ts";

/**
 * The order in which conferences are handed out: first those that have lost their server, of these the running ones
 * before those that are yet to start, and the largest first, since many people wait and large rooms are hard to find;
 * then the others by their start.
 */
export function byUrgency(nowMs: number): (a: ConferenceEntry, b: ConferenceEntry) => number {
  return (a, b) => {
    const [lostA, lostB] = [wasHosted(a), wasHosted(b)];
    if (lostA !== lostB) return lostA ? -1 : 1;
    if (!lostA) return byStart(a, b);
    const [runningA, runningB] = [a.startMs <= nowMs, b.startMs <= nowMs];
    if (runningA !== runningB) return runningA ? -1 : 1;
    return b.conference.weight - a.conference.weight || byStart(a, b);
  };
}

/** Lost, or claimed after it was lost; not one that is moved from a server where it still runs. */
function wasHosted(entry: ConferenceEntry): boolean {
  return isLost(entry) || (entry.status === "claimed" && entry.conference.dispatch !== undefined);
}
