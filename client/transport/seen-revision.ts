import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { REVISION_HEADER, readRevision } from "../../common/rpc/revision-header.ts";

/**
 * Tells each call's replica the newest revision that the client has seen through any, so that it reads what it has
 * written, and never older than it has read.
 */
export function createSeenRevision(): Interceptor {
  let seen = 0n;
  const raise = (revision: bigint | undefined) => {
    if (revision !== undefined && revision > seen) seen = revision;
  };
  return (next) => async (request) => {
    const told = seen;
    if (told > 0n) request.header.set(REVISION_HEADER, String(told));
    const response = await next(request);
    if (response.stream) return { ...response, message: watched(response, raise) };
    const revision = readRevision(response.trailer.get(REVISION_HEADER));
    // A replica answers with less than it was told only when the store has begun another life.
    if (revision !== undefined && revision < told && seen === told) seen = revision;
    else raise(revision);
    return response;
  };
}

async function* watched({ message }: StreamResponse, raise: (revision: bigint | undefined) => void) {
  for await (const part of message) {
    raise(revisionOf(part));
    yield part;
  }
}

/** Messages of watches carry their revision; a task's dispatch epoch is the revision of its claim. */
function revisionOf(message: object): bigint | undefined {
  if ("revision" in message && typeof message.revision === "bigint") return message.revision;
  if (!("tasks" in message) || !Array.isArray(message.tasks)) return undefined;
  let newest = 0n;
  for (const { dispatchEpoch } of message.tasks as readonly { dispatchEpoch: bigint }[])
    if (dispatchEpoch > newest) newest = dispatchEpoch;
  return newest;
}
