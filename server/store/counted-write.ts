import { type ConditionalWrite, type Fence, type WriteResult, writeBatch } from "./conditional-writes.ts";
import { type Store, StoreError } from "./store.ts";

/** What a write is for. */
export type WriteKind =
  | "claim"
  | "commit"
  | "release"
  | "conference"
  | "dispatcher"
  | "server"
  | "observation"
  | "verdict"
  | "brake"
  | "round"
  | "sweep";

/**
 * What became of a write: everything was written; others had changed some of the keys (the rest was written); a fence
 * did not hold and nothing was written; whether it was written is unknown; the store failed and nothing was written.
 */
export type WriteOutcome = "written" | "conflict" | "fenced" | "unknown" | "error";

/** `writeBatch` on the store at hand, told what it is for. */
export type Write = (
  kind: WriteKind,
  fences: readonly Fence[],
  writes: readonly ConditionalWrite[],
  signal?: AbortSignal,
) => Promise<WriteResult>;

/** @param count called once for each batch that is not empty */
export function createCountedWrite(
  store: Store,
  count: (kind: WriteKind, outcome: WriteOutcome) => void,
): Write {
  return async (kind, fences, writes, signal) => {
    if (writes.length === 0) return await writeBatch(store, fences, writes, signal);
    try {
      const result = await writeBatch(store, fences, writes, signal);
      if (result.fenced) count(kind, "fenced");
      else count(kind, result.written.size < writes.length ? "conflict" : "written");
      return result;
    } catch (err) {
      const unknown = err instanceof StoreError && err.code === "unknown_outcome";
      count(kind, unknown ? "unknown" : "error");
      throw err;
    }
  };
}
