import { catchUp, type OperationContext } from "./context.ts";

/**
 * Waits until the view has a revision that a caller knows, from another replica say, so that what is decided next is not
 * older. A revision that the store does not have is from another life of it, and nothing to wait for.
 * @throws {ConnectError} UNAVAILABLE when the view does not follow in time
 * @throws {StoreError} when the store cannot be asked
 */
export async function reachKnown(context: OperationContext, revision: bigint, signal: AbortSignal) {
  const { view } = context;
  if (revision <= view.revision) return;
  if (revision <= (await newestRevision(context, signal))) await catchUp(context, revision, signal);
}

/** Waits until the view has everything that was written before the call, through whichever replica. */
export async function reachNewest(context: OperationContext, signal: AbortSignal) {
  await catchUp(context, await newestRevision(context, signal), signal);
}

async function newestRevision({ store, keys }: OperationContext, signal: AbortSignal): Promise<bigint> {
  const { revision } = await store.range({ key: keys.round }, signal);
  return revision;
}
