import type { Logger } from "../../../common/logging.ts";
import { StoreError, type TxnRequest } from "../store.ts";
import { MAX_OPERATIONS } from "../validation.ts";

/**
 * How many operations the cluster takes in one transaction. etcd does not tell (`--max-txn-ops`), so its default is
 * assumed until it refuses fewer; then the limit is found by halves, with transactions that only read. It never rises
 * again: members may be set differently, and a smaller transaction is always right. Nor does it sink below 4.
 */
export interface OperationLimit {
  readonly current: number;
  /** Learns from a transaction that etcd refused as too long. Resolves once `current` is what it takes. */
  learn(refused: TxnRequest, signal?: AbortSignal): Promise<void>;
}

/** The longest indivisible transaction: a commit compares its dispatcher, a server, its reservation and a conference. */
const MIN_OPERATIONS = 4;

/** @param read runs a transaction that only reads */
export function createOperationLimit(
  read: (request: TxnRequest, signal?: AbortSignal) => Promise<unknown>,
  logger: Logger,
): OperationLimit {
  let current = MAX_OPERATIONS;
  let search: Promise<void> | undefined;

  async function accepts(count: number, key: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await read({ compare: [], then: Array.from({ length: count }, () => ({ get: { key } })) }, signal);
      return true;
    } catch (err) {
      if (err instanceof StoreError && err.code === "too_many_operations") return false;
      throw err;
    }
  }

  async function find(refused: number, key: string, signal?: AbortSignal) {
    let accepted = 1;
    let tooMany = refused;
    try {
      while (tooMany - accepted > 1) {
        const middle = Math.floor((accepted + tooMany) / 2);
        if (await accepts(middle, key, signal)) accepted = middle;
        else tooMany = middle;
      }
    } finally {
      // When the search is cut short, what is known so far still holds.
      const found = Math.max(accepted, Math.floor(tooMany / 2));
      current = Math.min(current, Math.max(found, MIN_OPERATIONS));
      const fields = { maxOperations: found };
      if (found >= MIN_OPERATIONS) logger.info(fields, "etcd takes fewer operations in a transaction");
      else logger.error(fields, "etcd takes too few operations in a transaction, raise --max-txn-ops");
    }
  }

  return {
    get current() {
      return current;
    },
    async learn(refused, signal) {
      const count = Math.max(refused.compare.length, refused.then.length, refused.else?.length ?? 0);
      const key = keyOf(refused);
      if (count > current || key === undefined) return;
      search ??= find(count, key, signal).finally(() => {
        search = undefined;
      });
      // That it was refused is what the caller is told, whatever comes of the search.
      await search.catch(() => {});
    },
  };
}

/** A key that whoever sent the transaction may read. */
function keyOf({ compare, then }: TxnRequest): string | undefined {
  const [first] = then;
  if (compare[0]) return compare[0].key;
  if (!first) return undefined;
  if ("put" in first) return first.put.key;
  if ("delete" in first) return first.delete.key;
  return "key" in first.get ? first.get.key : first.get.prefix || undefined;
}
