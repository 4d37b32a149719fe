import { type Store, StoreError, type TxnRequest, type TxnResult } from "../../server/store/store.ts";

/** What becomes of one transaction. */
export type TxnFault =
  /** As it should be. */
  | "none"
  /** It is carried out, and the reply is lost. */
  | "reply lost"
  /** It is lost on the way, and nobody knows. */
  | "request lost"
  /** The store is known not to have done it. */
  | "unavailable";

/** A store with faults between it and its user. */
export interface FaultyStore {
  readonly store: Store;
  /** Decides what becomes of each transaction; none by default. */
  faultOf: (request: TxnRequest, attempt: number) => TxnFault;
  /** Called before each transaction is sent. */
  beforeTxn: (request: TxnRequest) => Promise<void> | void;
  /** Called after each transaction that was carried out, before its reply. */
  afterTxn: (request: TxnRequest, result: TxnResult) => Promise<void> | void;
  /** Called before each renewal of a lease. */
  beforeKeepalive: (leaseId: bigint) => Promise<void> | void;
  /** Cuts every watch with an error, and refuses everything until it is lifted. */
  lose(): void;
  restore(): void;
  /** How many transactions were sent. */
  readonly txns: number;
}

export function createFaultyStore(inner: Store): FaultyStore {
  let txns = 0;
  let lost: AbortController = new AbortController();
  const unavailable = () => new StoreError("unavailable", "the store was lost");
  const refuse = () => {
    if (lost.signal.aborted) throw unavailable();
  };
  const faulty: FaultyStore = {
    faultOf: () => "none",
    beforeTxn: () => {},
    afterTxn: () => {},
    beforeKeepalive: () => {},
    lose: () => lost.abort(),
    restore() {
      lost = new AbortController();
    },
    get txns() {
      return txns;
    },
    store: {
      engine: inner.engine,
      maxOperations: inner.maxOperations,
      async range(request, signal) {
        refuse();
        return inner.range(request, signal);
      },
      async txn(request, signal) {
        refuse();
        txns += 1;
        const attempt = txns;
        await faulty.beforeTxn(request);
        const fault = faulty.faultOf(request, attempt);
        if (fault === "unavailable") throw unavailable();
        if (fault === "request lost") throw new StoreError("unknown_outcome", "no reply");
        const result = await inner.txn(request, signal);
        await faulty.afterTxn(request, result);
        if (fault === "reply lost") throw new StoreError("unknown_outcome", "no reply");
        return result;
      },
      async leaseGrant(ttlMs, signal) {
        refuse();
        return inner.leaseGrant(ttlMs, signal);
      },
      async leaseKeepalive(leaseId, signal) {
        refuse();
        await faulty.beforeKeepalive(leaseId);
        return inner.leaseKeepalive(leaseId, signal);
      },
      async leaseRevoke(leaseId, signal) {
        refuse();
        return inner.leaseRevoke(leaseId, signal);
      },
      async *watch(request, signal) {
        refuse();
        const { signal: cut } = lost;
        yield* inner.watch(request, AbortSignal.any([signal, cut]));
        if (cut.aborted && !signal.aborted) throw unavailable();
      },
      async compact(revision, signal) {
        refuse();
        return inner.compact(revision, signal);
      },
      close: () => inner.close(),
    },
  };
  return faulty;
}
