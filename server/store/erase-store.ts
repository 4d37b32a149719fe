import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { openStore } from "./open-store.ts";

/** How many keys are read at a time. */
const PAGE_SIZE = 1_000;

/**
 * Deletes everything that a deployment keeps at a location, and nothing beside it.
 * @throws as `openStore`, `Store.range`, `Store.txn`
 */
export async function eraseStore(
  location: string,
  options: { clock: Clock; logger: Logger },
  signal?: AbortSignal,
): Promise<void> {
  const { store, prefix } = await openStore(location, options);
  try {
    for (;;) {
      const { kvs } = await store.range({ prefix, limit: PAGE_SIZE }, signal);
      if (kvs.length === 0) return;
      for (let from = 0; from < kvs.length; from += store.maxOperations) {
        const batch = kvs.slice(from, from + store.maxOperations);
        const then = batch.map(({ key }) => ({ delete: { key } }));
        await store.txn({ compare: [], then }, signal);
      }
    }
  } finally {
    await store.close();
  }
}
