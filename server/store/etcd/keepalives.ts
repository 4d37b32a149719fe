import type { IDuplexStream, ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from "etcd3";
import type { Clock, Timer } from "../../../common/clock.ts";
import { type LeaseGrant, StoreError } from "../store.ts";
import type { EtcdConnection, OpenStream } from "./connection.ts";
import { CallEnded } from "./errors.ts";

/** Renews leases over one stream for all of them, opened when first needed and again after it broke. */
export interface Keepalives {
  /**
   * Renewing is safe to repeat, so it is tried once more over a new stream when the first one breaks or falls silent.
   * @throws {StoreError} `lease_not_found`, `unavailable`, `unknown_outcome`
   */
  renew(leaseId: bigint, signal?: AbortSignal): Promise<LeaseGrant>;
  close(): void;
}

/**
 * One stream answers in order, so one answer that is missing means that none will come. Two such waits fit the 5 s of the
 * shortest usual lease.
 */
const ANSWER_TIMEOUT_MS = 1_500;
const MAX_TRIES = 2;

/** More than a cluster can renew within the deadline. */
const MAX_WAITING = 20_000;

type Stream = IDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;

interface Waiter {
  resolve(grant: LeaseGrant): void;
  reject(reason: unknown): void;
  readonly timer: Timer;
}

/** A stream that has ended; whether the renewal arrived before is not known. */
class StreamBroken extends Error {
  override readonly name = "StreamBroken";
}

interface Session {
  ask(leaseId: bigint): Promise<LeaseGrant>;
  end(cause: unknown): void;
}

export function createKeepalives(connection: EtcdConnection, clock: Clock): Keepalives {
  const closing = new AbortController();
  let opening: Promise<Session> | undefined;

  function session(): Promise<Session> {
    opening ??= connection
      .stream((stubs) => stubs.lease.leaseKeepAlive(), closing.signal)
      .then((opened) => startSession(opened, clock, () => (opening = undefined)))
      .catch((err: unknown) => {
        opening = undefined;
        throw err;
      });
    return opening;
  }

  async function tryRenew(leaseId: bigint): Promise<LeaseGrant> {
    let broken: StreamBroken | undefined;
    for (let tries = 1; tries <= MAX_TRIES; tries++) {
      try {
        return await (await session()).ask(leaseId);
      } catch (err) {
        if (err instanceof StreamBroken) broken = err;
        else if (!broken || !(err instanceof StoreError) || err.code !== "unavailable") throw err;
      }
    }
    throw new StoreError("unknown_outcome", broken?.message ?? "no answer", { cause: broken?.cause });
  }

  return {
    async renew(leaseId, signal) {
      if (signal?.aborted) throw new StoreError("unavailable", "aborted", { cause: signal.reason });
      const renewing = tryRenew(leaseId);
      if (!signal) return await renewing;
      const aborted = Promise.withResolvers<never>();
      const onAbort = () =>
        aborted.reject(new StoreError("unknown_outcome", "aborted", { cause: signal.reason }));
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        return await Promise.race([renewing, aborted.promise]);
      } finally {
        signal.removeEventListener("abort", onAbort);
        renewing.catch(() => {});
      }
    },
    close() {
      closing.abort();
      const reason = new CallEnded("closed", "the store is closed");
      opening?.then(
        (current) => current.end(reason),
        () => {},
      );
    },
  };
}

function startSession(
  { stream, endpoint, answered, failed }: OpenStream<Stream>,
  clock: Clock,
  onEnd: () => void,
): Session {
  /** In the order of the requests, for each lease: an answer names its lease and nothing else. */
  const waiting = new Map<bigint, Waiter[]>();
  let count = 0;
  let over = false;

  function end(cause: unknown) {
    if (over) return;
    over = true;
    onEnd();
    const { message } = failed(cause);
    stream.cancel();
    for (const waiter of [...waiting.values()].flat()) {
      waiter.timer.clear();
      waiter.reject(new StreamBroken(message, { cause }));
    }
    waiting.clear();
  }

  function take(response: ILeaseKeepAliveResponse) {
    if (over) return;
    answered();
    const leaseId = BigInt(response.ID);
    const queue = waiting.get(leaseId) ?? [];
    const waiter = queue.shift();
    if (queue.length === 0) waiting.delete(leaseId);
    if (!waiter) return;
    count -= 1;
    waiter.timer.clear();
    const ttlMs = Number(response.TTL) * 1_000;
    if (ttlMs > 0) waiter.resolve({ leaseId, ttlMs });
    else waiter.reject(new StoreError("lease_not_found", `lease ${leaseId} is gone`));
  }

  stream.on("data", take);
  stream.on("error", end);
  stream.on("end", () => end(new Error("etcd ended the keepalive stream")));

  return {
    ask(leaseId) {
      if (over) return Promise.reject(new StreamBroken("the keepalive stream has ended"));
      if (count >= MAX_WAITING) {
        return Promise.reject(new StoreError("unavailable", `${count} leases wait to be renewed`));
      }
      const { promise, resolve, reject } = Promise.withResolvers<LeaseGrant>();
      const silent = () =>
        end(new CallEnded("deadline", `${endpoint} renewed no lease within ${ANSWER_TIMEOUT_MS} ms`));
      const waiter = { resolve, reject, timer: clock.setTimer(silent, ANSWER_TIMEOUT_MS) };
      const queue = waiting.get(leaseId);
      if (queue) queue.push(waiter);
      else waiting.set(leaseId, [waiter]);
      count += 1;
      stream.write({ ID: String(leaseId) });
      return promise;
    },
    end,
  };
}
