import { setImmediate as nextTurn } from "node:timers/promises";
import type { Logger } from "pino";
import { StoreError } from "../store.ts";
import { type Batch, createBatch, type LeaseTable } from "./batch.ts";
import type { Disk } from "./disk.ts";

/** In bytes. What waits for the disk lives in memory; at this much, more waiting would only make replies later. */
const MAX_QUEUED_BYTES = 64 << 20;

/** In bytes. Bounds how long one flush takes, and so how long the transactions behind it wait. */
const MAX_BATCH_BYTES = 4 << 20;

/** What a queued call costs besides its values, roughly measured. */
export const CALL_BYTES = 256;

/** Log records dropped with a commit at least, when there are that many to drop; small beside a flush. */
const TRIM_STEP = 1_000;

export interface CommitLoopOptions {
  readonly disk: Disk;
  readonly leases: LeaseTable;
  readonly historyRevisions: bigint;
  readonly logger?: Logger | undefined;
  /** Called after a commit is durable and before its calls are answered. */
  readonly onCommit: (batch: Batch) => void;
  /** Called once, when the disk has failed: nothing can be read or written from then on. */
  readonly onFailure: (error: StoreError) => void;
}

/**
 * The only writer. Calls that come while a commit is being flushed wait; then they are evaluated in their order, and
 * all their writes go to disk in one commit. Until that is flushed, nobody sees any of them, nor an answer.
 */
export interface CommitLoop {
  /**
   * Evaluates a call in its turn, and answers with what `evaluate` returned or threw once the commit is durable.
   * @param bytes what the call weighs, for the bounds of the queue and of a commit
   * @throws {StoreError} `unavailable` when the queue is full, the loop is closed or failed, or the signal aborted before
   * the call's turn; `unknown_outcome` when it aborted later; `no_space`
   */
  submit<T>(evaluate: (batch: Batch) => T, bytes: number, signal?: AbortSignal): Promise<T>;
  /** Refuses new calls and waits for those that were taken. */
  close(): Promise<void>;
}

interface Call {
  readonly bytes: number;
  state: "queued" | "running" | "settled";
  /** Evaluates; the function it returns gives the answer. */
  evaluate(batch: Batch): () => void;
  fail(error: StoreError): void;
}

export function createCommitLoop(options: CommitLoopOptions): CommitLoop {
  const { disk, leases, historyRevisions, logger, onCommit, onFailure } = options;
  let queue: Call[] = [];
  let queuedBytes = 0;
  let trimmedTo = disk.oldestRecord();
  let running: Promise<void> | undefined;
  let refusal: StoreError | undefined;

  function take(): Call[] {
    let count = 0;
    let bytes = 0;
    for (const call of queue) {
      if (count > 0 && bytes + call.bytes > MAX_BATCH_BYTES) break;
      bytes += call.bytes;
      count++;
    }
    const taken = queue.slice(0, count);
    queue = queue.slice(count);
    queuedBytes -= bytes;
    return taken.filter((call) => call.state === "queued");
  }

  /** The next log records to drop. */
  function nextTrim({ head, records }: Batch) {
    const most = BigInt(Math.max(TRIM_STEP, 2 * records.length));
    const left = head.compactRevision - trimmedTo;
    const step = left > most ? most : left;
    return { from: trimmedTo, to: trimmedTo + (step > 0n ? step : 0n) };
  }

  /** Evaluates calls in their order. The answers are to be given once the batch is durable. */
  function evaluate(calls: readonly Call[]) {
    const snapshot = disk.snapshot();
    try {
      const batch = createBatch(snapshot, leases);
      const answers = calls.map((call) => {
        call.state = "running";
        return call.evaluate(batch);
      });
      batch.keepNewest(historyRevisions);
      const compacts = batch.head.compactRevision > snapshot.head.compactRevision;
      return { batch, answers, writes: batch.records.length > 0 || batch.leases.size > 0 || compacts };
    } finally {
      snapshot.release();
    }
  }

  /** @returns whether there is more to trim */
  async function commit(calls: readonly Call[]): Promise<boolean> {
    try {
      const { batch, answers, writes } = evaluate(calls);
      const { head, records, leases: changedLeases } = batch;
      const trim = nextTrim(batch);
      if (writes || trim.to > trim.from) {
        await disk.commit({ head, records, trim, leases: changedLeases, changes: batch.changes() });
        trimmedTo = trim.to;
        onCommit(batch);
      }
      for (const answer of answers) answer();
      return trimmedTo < head.compactRevision;
    } catch (err) {
      fail(calls, err);
      return false;
    }
  }

  function fail(calls: readonly Call[], err: unknown) {
    const error =
      err instanceof StoreError ? err : new StoreError("unknown_outcome", "writing failed", { cause: err });
    logger?.error({ err: error, code: error.code, calls: calls.length }, "commit failed");
    for (const call of calls) call.fail(error);
    if (error.code === "no_space") return;
    refusal = new StoreError("unavailable", `the store failed and must be opened again: ${error.message}`, {
      cause: error,
    });
    for (const call of queue) call.fail(refusal);
    queue = [];
    queuedBytes = 0;
    onFailure(refusal);
  }

  async function run() {
    let trimming = true;
    while (queue.length > 0 || trimming) {
      // A turn of the event loop lets callers that were just answered queue their next calls for the same commit.
      await nextTurn();
      trimming = await commit(take());
    }
    running = undefined;
  }

  return {
    submit(evaluate, bytes, signal) {
      if (refusal) return Promise.reject(refusal);
      if (signal?.aborted) return Promise.reject(aborted("unavailable", signal));
      const weight = bytes + CALL_BYTES;
      if (queuedBytes > 0 && queuedBytes + weight > MAX_QUEUED_BYTES) {
        return Promise.reject(new StoreError("unavailable", "too many calls are waiting for the disk"));
      }
      return new Promise((resolve, reject) => {
        const settle = (act: () => void) => {
          if (call.state === "settled") return;
          call.state = "settled";
          signal?.removeEventListener("abort", onAbort);
          act();
        };
        const call: Call = {
          bytes: weight,
          state: "queued",
          evaluate(batch) {
            try {
              const result = evaluate(batch);
              return () => settle(() => resolve(result));
            } catch (err) {
              // Anything else may have left half a transaction in the batch.
              if (!(err instanceof StoreError)) throw err;
              return () => settle(() => reject(err));
            }
          },
          fail: (error) => settle(() => reject(error)),
        };
        const onAbort = () => {
          const code = call.state === "queued" ? "unavailable" : "unknown_outcome";
          settle(() => reject(aborted(code, signal)));
        };
        signal?.addEventListener("abort", onAbort, { once: true });
        queue.push(call);
        queuedBytes += weight;
        running ??= run();
      });
    },
    async close() {
      refusal ??= new StoreError("unavailable", "the store is closed");
      await running;
    },
  };
}

export function aborted(
  code: "unavailable" | "unknown_outcome",
  signal: AbortSignal | undefined,
): StoreError {
  return new StoreError(code, "the call was aborted", { cause: signal?.reason });
}
