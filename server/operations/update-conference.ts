import { Code } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import type { ConferenceRecord } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { encodeRecord, type Writer } from "../dispatch/records.ts";
import type { Fence } from "../store/conditional-writes.ts";
import type { ConferenceEntry } from "../view/conference-entry.ts";
import { catchUp, contention, type OperationContext, requireFresh, writerOf } from "./context.ts";

/** Others that write the same conference at the same moment are let pass this often. */
const MAX_TRIES = 10;

/** What to write for an entry as it stands now; undefined when nothing is to be done. May throw a status. */
export type Change = (
  entry: ConferenceEntry,
  writer: Writer,
) => { readonly record: ConferenceRecord; readonly fences?: readonly Fence[] } | undefined;

/**
 * Reads a conference, decides, and writes on the condition that it has not changed meanwhile; decides anew when it has.
 * Returns the conference as it stands afterwards.
 * @throws {ConnectError} NOT_FOUND, ABORTED when others keep changing it, and what `change` throws
 */
export async function updateConference(
  context: OperationContext,
  conferenceId: string,
  change: Change,
  signal: AbortSignal,
): Promise<ConferenceEntry> {
  requireFresh(context);
  const { keys } = context;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const entry = requireConference(context, conferenceId);
    const next = change(entry, writerOf(context));
    if (!next) return entry;
    const key = keys.conference(conferenceId);
    const write = { key, modRevision: entry.modRevision, value: encodeRecord(next.record) };
    const result = await context.write("conference", next.fences ?? [], [write], signal);
    await catchUp(context, result.revision, signal);
    if (!result.fenced && result.written.has(key)) return requireConference(context, conferenceId);
  }
  throw contention(`conference ${conferenceId}`);
}

/** @throws {ConnectError} NOT_FOUND */
export function requireConference({ view }: OperationContext, conferenceId: string): ConferenceEntry {
  const entry = view.conferences.get(conferenceId);
  if (entry) return entry;
  throw statusError(
    Code.NotFound,
    ErrorReason.CONFERENCE_NOT_FOUND,
    `there is no conference ${conferenceId}`,
    {
      metadata: { conference_id: conferenceId },
    },
  );
}
