import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { ConferenceSchema } from "../../proto/gen/convoke/v1/conference_pb.js";
import {
  type ConferenceService,
  BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy,
  BatchCreateResult_Outcome as Outcome,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { BadRequestSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import type { ImportProblem } from "./problem.ts";
import { type CallOptions, callWithRetry } from "./retry.ts";

/** A conference to schedule, and where it was read. */
export interface ImportItem {
  readonly conference: MessageInitShape<typeof ConferenceSchema> & { readonly conferenceId: string };
  readonly file: string;
  readonly line: number;
}

/** What became of an import so far. */
export interface ImportCounts {
  readonly created: number;
  readonly updated: number;
  readonly unchanged: number;
  readonly cancelled: number;
  readonly rejected: number;
}

export const NO_COUNTS: ImportCounts = { created: 0, updated: 0, unchanged: 0, cancelled: 0, rejected: 0 };

export function addCounts(a: ImportCounts, b: Partial<ImportCounts>): ImportCounts {
  return {
    created: a.created + (b.created ?? 0),
    updated: a.updated + (b.updated ?? 0),
    unchanged: a.unchanged + (b.unchanged ?? 0),
    cancelled: a.cancelled + (b.cancelled ?? 0),
    rejected: a.rejected + (b.rejected ?? 0),
  };
}

export interface ImportOptions extends CallOptions {
  readonly client: Client<typeof ConferenceService>;
  /** Called with what has changed since the last call. */
  readonly onProgress?: (counts: Partial<ImportCounts>) => void;
  /** Called for each conference that the control plane refuses. */
  readonly onRejected?: (problem: ImportProblem) => void;
}

/** Half of what a call takes, so that a message stays well below a gRPC server's limit of 4 MiB. */
const BATCH_SIZE = 500;

/** Enough to keep a control plane busy while the next batch is made. */
const MAX_CALLS = 4;

/**
 * Schedules conferences, or changes those that exist to what is given: in batches, some at a time. No ID may come twice.
 * What the control plane refuses is reported and left out. @throws what a call throws when it cannot be made at all
 */
export async function upsertConferences(
  items: Iterable<ImportItem> | AsyncIterable<ImportItem>,
  options: ImportOptions,
): Promise<void> {
  const calls = new Set<Promise<void>>();
  // A failed call stops the others; its error is what counts, not theirs.
  const failed = new AbortController();
  let failure: { readonly cause: unknown } | undefined;
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const send = async (batch: readonly ImportItem[]) => {
    while (calls.size >= MAX_CALLS) await Promise.race(calls);
    if (failure) return;
    const call = upsertBatch(batch, { ...options, signal })
      .catch((err: unknown) => {
        failure ??= { cause: err };
        failed.abort(err);
      })
      .finally(() => calls.delete(call));
    calls.add(call);
  };
  try {
    let batch: ImportItem[] = [];
    for await (const item of items) {
      signal.throwIfAborted();
      batch.push(item);
      if (batch.length < BATCH_SIZE) continue;
      await send(batch);
      batch = [];
    }
    if (batch.length > 0) await send(batch);
  } finally {
    await Promise.all(calls);
  }
  if (failure) throw failure.cause;
}

async function upsertBatch(items: readonly ImportItem[], options: ImportOptions): Promise<void> {
  if (items.length === 0) return;
  const requests = items.map(({ conference }) => ({ conference }));
  let results: Awaited<ReturnType<typeof options.client.batchCreateConferences>>["results"];
  try {
    ({ results } = await callWithRetry(options, (call) =>
      options.client.batchCreateConferences({ requests, conflictPolicy: ConflictPolicy.UPDATE }, call),
    ));
  } catch (err) {
    const invalid = invalidItems(err);
    if (invalid.size === 0) throw err;
    for (const [index, reason] of invalid) reject(items[index], reason, options);
    return upsertBatch(
      items.filter((_, index) => !invalid.has(index)),
      options,
    );
  }
  const count = (outcome: Outcome) => results.filter((result) => result.outcome === outcome).length;
  options.onProgress?.({
    created: count(Outcome.CREATED),
    updated: count(Outcome.UPDATED),
    unchanged: count(Outcome.UNCHANGED),
  });
  for (const [index, { outcome, rejection }] of results.entries())
    if (outcome === Outcome.REJECTED)
      reject(items[index], rejection?.message ?? "refused without a reason", options);
}

function reject(item: ImportItem | undefined, reason: string, options: ImportOptions) {
  if (!item) return;
  options.onProgress?.({ rejected: 1 });
  options.onRejected?.({
    file: item.file,
    line: item.line,
    reason: `${item.conference.conferenceId}: ${reason}`,
  });
}

/** A batch with one invalid conference is refused as a whole; the violations name the ones to leave out. */
function invalidItems(err: unknown): Map<number, string> {
  const invalid = new Map<number, string>();
  if (!(err instanceof ConnectError) || err.code !== Code.InvalidArgument) return invalid;
  for (const { fieldViolations } of err.findDetails(BadRequestSchema)) {
    for (const { field, description } of fieldViolations) {
      const match = /^requests\[(\d+)\]\.(?:conference\.)?(.*)$/.exec(field);
      if (!match) continue;
      const index = Number(match[1]);
      invalid.set(index, [invalid.get(index), `${match[2]} ${description}`].filter(Boolean).join("; "));
    }
  }
  return invalid;
}
