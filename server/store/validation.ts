import { type Compare, type Operation, type RangeRequest, StoreError, type TxnRequest } from "./store.ts";

/** etcd's default, and the embedded engine's, so that what fits one fits the other. */
export const MAX_OPERATIONS = 128;

/** In bytes. LMDB takes keys of up to 1,978 with pages of 4 KiB; one index puts the lease's ID before the key. */
export const MAX_KEY_BYTES = 1_024;

/** As etcd's: about 285 years. */
const MAX_TTL_MS = 9_000_000_000_000;

/** A lease shorter than that would be lost to one slow flush. */
const MIN_TTL_MS = 1_000;

const invalid = (message: string) => new StoreError("invalid", message);

function checkText(what: string, value: string) {
  // A lone surrogate has no UTF-8 form of its own: two such keys would become one.
  if (!value.isWellFormed()) throw invalid(`a ${what} is not valid Unicode`);
  // No UTF-16 unit takes more than three bytes, so short ones need no counting.
  if (value.length * 3 > MAX_KEY_BYTES && Buffer.byteLength(value) > MAX_KEY_BYTES) {
    throw invalid(`a ${what} is longer than ${MAX_KEY_BYTES} bytes`);
  }
}

function checkKey(key: string) {
  if (key === "") throw invalid("a key is empty");
  checkText("key", key);
}

function checkSelector(selector: { readonly key: string } | { readonly prefix: string }) {
  if ("key" in selector) checkKey(selector.key);
  else checkText("prefix", selector.prefix);
}

/** @throws {StoreError} `invalid` */
export function checkRange(request: RangeRequest) {
  checkSelector(request);
  if (request.after !== undefined) checkText("key", request.after);
  if (request.limit !== undefined && !(Number.isInteger(request.limit) && request.limit > 0)) {
    throw invalid("a limit is not a positive integer");
  }
}

/** @throws {StoreError} `invalid` */
export const checkPrefix = (prefix: string) => checkText("prefix", prefix);

/**
 * Checks both branches, whichever will run, so that a mistake shows at once.
 * @throws {StoreError} `too_many_operations`, `invalid`
 */
export function checkTxn(request: TxnRequest, maxOperations: number = MAX_OPERATIONS) {
  checkCount("compares", request.compare, maxOperations);
  for (const compare of request.compare) checkKey(compare.key);
  checkBranch(request.then, maxOperations);
  checkBranch(request.else ?? [], maxOperations);
}

function checkCount(what: string, list: readonly Compare[] | readonly Operation[], maxOperations: number) {
  if (list.length <= maxOperations) return;
  throw new StoreError(
    "too_many_operations",
    `${list.length} ${what}, where at most ${maxOperations} may be`,
  );
}

function checkBranch(operations: readonly Operation[], maxOperations: number) {
  checkCount("operations", operations, maxOperations);
  const written = new Set<string>();
  for (const operation of operations) {
    if ("get" in operation) {
      checkSelector(operation.get);
      continue;
    }
    const { key } = "put" in operation ? operation.put : operation.delete;
    checkKey(key);
    if (written.has(key)) throw invalid(`key ${key} is written twice in one branch`);
    written.add(key);
    if ("put" in operation && !(operation.put.value instanceof Uint8Array)) {
      throw invalid(`the value of ${key} is not bytes`);
    }
  }
}

/** The TTL that is granted. @throws {StoreError} `invalid` */
export function grantedTtlMs(ttlMs: number): number {
  if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS)) throw invalid(`a lease's time to live cannot be ${ttlMs} ms`);
  return Math.max(MIN_TTL_MS, Math.ceil(ttlMs));
}
