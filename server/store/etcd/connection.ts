import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { StoreError } from "../store.ts";
import { type Endpoint, openEndpoint, type Stubs, type TlsOptions } from "./endpoint.ts";
import { CallEnded, type Failure, judgeFailure } from "./errors.ts";
import { createRotation } from "./rotation.ts";
import { createTokens } from "./tokens.ts";

export interface EtcdConnectionOptions {
  /** host:port of each member. */
  readonly endpoints: readonly string[];
  /** Encrypted when given. */
  readonly tls?: TlsOptions;
  readonly auth?: { readonly user: string; readonly password: string };
  readonly clock: Clock;
  readonly logger: Logger;
  /** A number in [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** A cluster as one thing to call: picks the member, logs in, and tells what a failure means. */
export interface EtcdConnection {
  readonly addresses: readonly string[];
  /** Aborts when the connection closes: the time to end streams. */
  readonly closing: AbortSignal;

  /**
   * One call. It is sent again, to another member, only when that is safe: when it changes nothing, was never sent, or
   * was refused for its token.
   * @throws {StoreError} as the store does; `unknown_outcome` only when it may have changed something
   */
  unary<T>(options: UnaryOptions, send: (stubs: Stubs) => Promise<T>): Promise<T>;

  /** One call to one member, without login, over a connection of its own. @throws {StoreError} */
  unaryAt<T>(address: string, timeoutMs: number, send: (stubs: Stubs) => Promise<T>): Promise<T>;

  /**
   * Opens a stream, moving on to other members while none was opened. Whoever opens it ends it, and tells what ended it.
   * @param open such as `(stubs) => stubs.watch.watch()`
   * @throws {StoreError} `unavailable`
   */
  stream<S>(open: (stubs: Stubs) => Promise<S>, signal: AbortSignal): Promise<OpenStream<S>>;

  /** Refuses new calls, waits for those under way, and ends every connection. */
  close(): Promise<void>;
}

export interface UnaryOptions {
  /** Whether the call can change anything; if so it is sent at most once. */
  readonly changes: boolean;
  /** How long one sending may take. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface OpenStream<S> {
  readonly stream: S;
  /** host:port, for logs. */
  readonly endpoint: string;
  /** Tells that the member has answered, so that its next failure is met with a short back-off again. */
  answered(): void;
  /**
   * Tells what ended the stream: a gRPC error, the reason of a cancelled watch, or a `CallEnded` of reason `deadline` when
   * the member fell silent. Does what that demands (another member, new connections, a new token), so that opening a
   * stream again is all that is left to do; returns what the store's caller should be told.
   */
  failed(cause: unknown): StoreError;
}

interface Way {
  readonly endpoint: Endpoint;
  readonly token: string | undefined;
}

/** A call that changes nothing may be tried on each member of a usual cluster. */
const MAX_SENDS = 3;

/** A call waits for the back-off of the members to pass when it is short, and fails at once when it is not. */
const MAX_WAIT_MS = 300;

/** How long a call may look for a member that takes it. */
const CONNECT_BUDGET_MS = 3_000;

/** etcd hashes a password within some 100 ms, and lets a queue form. */
const LOGIN_TIMEOUT_MS = 5_000;

const NOT_ENABLED = "etcdserver: authentication is not enabled";

export function connectEtcd(options: EtcdConnectionOptions): EtcdConnection {
  const { endpoints: addresses, tls, auth, clock, logger, random } = options;
  const closing = new AbortController();
  const underWay = new Set<Promise<unknown>>();
  const open = (address: string) => openEndpoint(address, tls, clock);
  const rotation = createRotation(addresses, open, clock, random);
  const tokens = createTokens(login, clock);
  let lastFailure: StoreError | undefined;
  let closed: Promise<void> | undefined;

  async function login(): Promise<string | undefined> {
    if (!auth) return undefined;
    const { user: name, password } = auth;
    try {
      const call = { changes: false, timeoutMs: LOGIN_TIMEOUT_MS };
      const { token } = await attempts(call, (stubs) => stubs.auth.authenticate({ name, password }), false);
      return token;
    } catch (err) {
      if (!(err instanceof StoreError) || !err.message.endsWith(NOT_ENABLED)) throw err;
      logger.warn("etcd has authentication switched off, going on without a password");
      return undefined;
    }
  }

  /** The member to use; waits out a short back-off. */
  async function pick(deadlineMs: number, signal: AbortSignal): Promise<Endpoint> {
    for (;;) {
      const picked = rotation.pick();
      if (!("waitMs" in picked)) return picked;
      if (picked.waitMs > MAX_WAIT_MS || clock.monotonicMs() + picked.waitMs > deadlineMs) {
        throw lastFailure ?? new StoreError("unavailable", "no etcd member answers");
      }
      await sleep(clock, picked.waitMs, signal);
    }
  }

  function settle(endpoint: Endpoint, token: string | undefined, failure: Failure) {
    if (failure.renewToken) tokens.refused(token);
    if (!failure.leave) return;
    lastFailure = new StoreError("unavailable", failure.error.message, { cause: failure.error.cause });
    if (rotation.leave(endpoint, failure.reconnect) && !closing.signal.aborted) {
      logger.warn({ endpoint: endpoint.address, reason: failure.error.message }, "leaving etcd member");
    }
  }

  /** Runs `send` on one member after the other, as far as that is safe. */
  async function attempts<T>(
    { changes, timeoutMs, signal }: UnaryOptions,
    send: (stubs: Stubs, way: Way) => Promise<T>,
    withToken: boolean,
  ): Promise<T> {
    const connectByMs = clock.monotonicMs() + CONNECT_BUDGET_MS;
    let renewed = false;
    for (let sends = 0; ; ) {
      using limit = limited(timeoutMs, signal);
      let endpoint: Endpoint | undefined;
      let token: string | undefined;
      let sent = false;
      try {
        token = withToken ? await race(tokens.current(), limit.signal) : undefined;
        endpoint = await pick(connectByMs, limit.signal);
        const onSend = () => {
          sent = true;
        };
        const stubs = endpoint.stubs({ token, signal: limit.signal, onSend });
        const result = await send(stubs, { endpoint, token });
        rotation.answered(endpoint);
        return result;
      } catch (cause) {
        const name = endpoint?.address ?? "any member";
        const failure = judgeFailure(cause, { sent, changes, endpoint: name });
        if (endpoint) settle(endpoint, token, failure);
        if (sent) sends += 1;
        const isOver = closing.signal.aborted || signal?.aborted || !endpoint;
        const again =
          (failure.renewToken && withToken && auth !== undefined && !renewed) ||
          (failure.leave && !sent && clock.monotonicMs() < connectByMs) ||
          (failure.leave && !changes && sends < MAX_SENDS);
        if (isOver || !again) throw failure.error;
        renewed ||= failure.renewToken;
      }
    }
  }

  /** A signal that aborts with the caller's, or as a deadline. */
  function limited(timeoutMs: number, signal: AbortSignal | undefined) {
    const controller = new AbortController();
    const onAbort = () => controller.abort(new CallEnded("aborted", "aborted", { cause: signal?.reason }));
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    const late = () => controller.abort(new CallEnded("deadline", `no answer within ${timeoutMs} ms`));
    const timer = clock.setTimer(late, timeoutMs);
    return {
      signal: controller.signal,
      [Symbol.dispose]() {
        timer.clear();
        signal?.removeEventListener("abort", onAbort);
      },
    };
  }

  function track<T>(promise: Promise<T>): Promise<T> {
    const tracked = promise.finally(() => underWay.delete(tracked));
    underWay.add(tracked);
    return tracked;
  }

  function checkOpen() {
    if (closing.signal.aborted) throw new StoreError("unavailable", "the store is closed");
  }

  return {
    addresses,
    closing: closing.signal,
    async unary(call, send) {
      checkOpen();
      return await track(attempts(call, send, true));
    },
    async unaryAt(address, timeoutMs, send) {
      checkOpen();
      const endpoint = open(address);
      using limit = limited(timeoutMs, closing.signal);
      try {
        return await track(send(endpoint.stubs({ token: undefined, signal: limit.signal })));
      } catch (cause) {
        throw judgeFailure(cause, { sent: true, changes: false, endpoint: address }).error;
      } finally {
        endpoint.close();
      }
    },
    async stream(openStream, signal) {
      checkOpen();
      const ended = AbortSignal.any([signal, closing.signal]);
      const call = { changes: false, timeoutMs: CONNECT_BUDGET_MS, signal: ended };
      const opened = async (stubs: Stubs, way: Way) => ({ stream: await openStream(stubs), ...way });
      const { stream, endpoint, token } = await track(attempts(call, opened, true));
      return {
        stream,
        endpoint: endpoint.address,
        answered: () => rotation.answered(endpoint),
        failed(cause) {
          const failure = judgeFailure(cause, { sent: true, changes: false, endpoint: endpoint.address });
          settle(endpoint, token, failure);
          return failure.error;
        },
      };
    },
    close() {
      closed ??= (async () => {
        closing.abort(new CallEnded("closed", "the store is closed"));
        await Promise.allSettled(underWay);
        rotation.close();
      })();
      return closed;
    },
  };
}

/** The promise's outcome, unless the signal aborts first; rejects with its reason then. */
function race<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return Promise.race([promise, aborted.promise]).finally(() => signal.removeEventListener("abort", onAbort));
}
