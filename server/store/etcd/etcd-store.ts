import { type Clock, systemClock } from "../../../common/clock.ts";
import { type LeaseGrant, type Store, StoreError, type TxnRequest, type TxnResult } from "../store.ts";
import { checkRange, checkTxn, grantedTtlMs } from "../validation.ts";
import { connectEtcd, type EtcdConnectionOptions } from "./connection.ts";
import { createKeepalives } from "./keepalives.ts";
import { canWrite, toRangeRequest, toRangeResult, toTxnRequest, toTxnResult } from "./messages.ts";
import { createOperationLimit } from "./operation-limit.ts";
import { logVersions } from "./versions.ts";
import { createWatcher } from "./watch.ts";

export type EtcdStoreOptions = Omit<EtcdConnectionOptions, "clock"> & {
  /** The system's clock by default. */
  readonly clock?: Clock;
};

/** For reads, which go to another member after it. Longer than the pause of a busy disk. */
const READ_TIMEOUT_MS = 2_500;

/**
 * For writes, whose outcome is unknown after it. What a member has sent on to a leader that died is lost, and etcd tells
 * so only after 7 s; what waits for the new leader, who stands within about 2 s, should land.
 */
const WRITE_TIMEOUT_MS = 3_000;

/**
 * A store on an etcd cluster of version 3.4 or newer. It connects when first used, so that a cluster that is down is
 * `unavailable` and not an error of this call; what the members' versions are worth goes to the log.
 */
export function createEtcdStore(options: EtcdStoreOptions): Store {
  const { clock = systemClock, logger } = options;
  const connection = connectEtcd({ ...options, clock });
  const keepalives = createKeepalives(connection, clock);
  const watch = createWatcher({ connection, clock, logger });
  const limit = createOperationLimit(sendTxn, logger);
  const underWay = new Set<Promise<unknown>>();
  let closing: Promise<void> | undefined;
  track(logVersions(connection, logger));

  async function sendTxn(request: TxnRequest, signal?: AbortSignal): Promise<TxnResult> {
    const changes = canWrite(request);
    const timeoutMs = changes ? WRITE_TIMEOUT_MS : READ_TIMEOUT_MS;
    const wire = toTxnRequest(request);
    return toTxnResult(
      request,
      await connection.unary({ changes, timeoutMs, signal }, (stubs) => stubs.kv.txn(wire)),
    );
  }

  function track<T>(promise: Promise<T>): Promise<T> {
    const tracked = promise.finally(() => underWay.delete(tracked));
    underWay.add(tracked);
    return tracked;
  }

  /** Runs a call so that `close` waits for it. */
  function run<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    if (closing) throw new StoreError("unavailable", "the store is closed");
    if (signal?.aborted) throw new StoreError("unavailable", "aborted", { cause: signal.reason });
    return track(call());
  }

  async function txn(request: TxnRequest, signal?: AbortSignal): Promise<TxnResult> {
    try {
      return await sendTxn(request, signal);
    } catch (err) {
      if (err instanceof StoreError && err.code === "too_many_operations") await limit.learn(request, signal);
      throw err;
    }
  }

  async function grant(ttlMs: number, signal?: AbortSignal): Promise<LeaseGrant> {
    const ttlSeconds = Math.ceil(grantedTtlMs(ttlMs) / 1_000);
    const granted = await connection.unary({ changes: true, timeoutMs: WRITE_TIMEOUT_MS, signal }, (stubs) =>
      stubs.lease.leaseGrant({ TTL: ttlSeconds }),
    );
    return { leaseId: BigInt(granted.ID), ttlMs: Number(granted.TTL) * 1_000 };
  }

  async function revoke(leaseId: bigint, signal?: AbortSignal): Promise<void> {
    try {
      await connection.unary({ changes: true, timeoutMs: WRITE_TIMEOUT_MS, signal }, (stubs) =>
        stubs.lease.leaseRevoke({ ID: String(leaseId) }),
      );
    } catch (err) {
      if (!(err instanceof StoreError && err.code === "lease_not_found")) throw err;
    }
  }

  async function close() {
    await Promise.allSettled(underWay);
    keepalives.close();
    await connection.close();
  }

  return {
    engine: "etcd",
    get maxOperations() {
      return limit.current;
    },
    async range(request, signal) {
      checkRange(request);
      const wire = toRangeRequest(request);
      return await run(signal, async () => {
        const call = { changes: false, timeoutMs: READ_TIMEOUT_MS, signal };
        return toRangeResult(request, await connection.unary(call, (stubs) => stubs.kv.range(wire)));
      });
    },
    async txn(request, signal) {
      checkTxn(request, limit.current);
      return await run(signal, () => txn(request, signal));
    },
    async leaseGrant(ttlMs, signal) {
      return await run(signal, () => grant(ttlMs, signal));
    },
    async leaseKeepalive(leaseId, signal) {
      return await run(signal, () => keepalives.renew(leaseId, signal));
    },
    async leaseRevoke(leaseId, signal) {
      await run(signal, () => revoke(leaseId, signal));
    },
    watch,
    async compact(revision, signal) {
      await run(signal, () =>
        connection.unary({ changes: true, timeoutMs: WRITE_TIMEOUT_MS, signal }, (stubs) =>
          stubs.kv.compact({ revision: String(revision) }),
        ),
      );
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}
