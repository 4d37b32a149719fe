import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  type Interceptor,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { createMethodUrl, runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import { type Clock, systemClock } from "../../common/clock.ts";
import type { Endpoint } from "./endpoint.ts";
import { createEndpointPool } from "./endpoint-pool.ts";
import { judgeFailure } from "./failure.ts";
import type { GrpcTransport } from "./grpc-transport.ts";
import { isRepeatable } from "./repeatable.ts";

export interface FailoverTransportOptions {
  /** host:port of the replicas, at least one. */
  readonly addresses: readonly string[];
  /** Makes the transport to one of them; it need not have interceptors or a default deadline. */
  readonly connect: (address: string) => GrpcTransport;
  /** The deadline of calls that bring none, in milliseconds. Streams have none unless given. */
  readonly defaultTimeoutMs: number;
  readonly interceptors: readonly Interceptor[];
  /** Default: the system's. */
  readonly clock?: Clock;
  /** In [0, 1). Default: Math.random. */
  readonly random?: () => number;
}

/** A replica that has not taken a connection by then is left for another; a reachable one takes milliseconds. */
const CONNECT_TIMEOUT_MS = 1_000;

/** After so long without an answer a replica is asked whether it lives, or at half the deadline if that is sooner. */
const PATIENCE_MS = 2_000;

/** How long it has to say so, or half of what is then left. */
const SIGN_OF_LIFE_MS = 1_000;

/**
 * A transport to several replicas. A call goes to the first that is well; when it fails there it is sent to the next, to
 * each at most once and within the call's deadline, provided that it was certainly not carried out or may be repeated
 * (`isRepeatable`). A stream is sent to the next as long as nothing of it has come; then it is its consumer's to resume.
 */
export function createFailoverTransport(
  options: FailoverTransportOptions,
): Transport & { readonly close: () => void } {
  const { defaultTimeoutMs, clock = systemClock, random = Math.random } = options;
  const interceptors = [...options.interceptors];
  const pool = createEndpointPool({ addresses: options.addresses, connect: options.connect, clock, random });

  /** One after the other, those that a connection stands to; the last whether or not, so that its error is told. */
  async function* reachable(deadlineMs: number, signal: AbortSignal) {
    const endpoints = pool.order();
    for (const [index, endpoint] of endpoints.entries()) {
      const isLast = index === endpoints.length - 1;
      const leftMs = deadlineMs - clock.monotonicMs();
      if (signal.aborted || leftMs <= 0) return;
      if (
        !isLast &&
        !(await endpoint.transport.connected(Math.min(CONNECT_TIMEOUT_MS, leftMs / 2), signal))
      ) {
        if (!signal.aborted) endpoint.suspend();
        continue;
      }
      yield { endpoint, isLast };
    }
  }

  /** Notes what a failure says of the replica, and tells whether to go on with the next. */
  function goesOn(method: DescMethod, endpoint: Endpoint, error: ConnectError, repeatable: boolean): boolean {
    const { endpointAtFault, notCarriedOut } = judgeFailure(method, error);
    if (!endpointAtFault) return false;
    endpoint.suspend();
    return notCarriedOut || repeatable;
  }

  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: ConstructorParameters<typeof Headers>[0],
      input: Parameters<Transport["unary"]>[4],
      contextValues: Parameters<Transport["unary"]>[5],
    ) {
      const totalMs = timeoutMs ?? defaultTimeoutMs;
      return runUnaryCall<I, O>({
        interceptors,
        timeoutMs: totalMs,
        ...(signal ? { signal } : {}),
        req: { ...requestOf(method, header, contextValues), stream: false, method, message: input as never },
        async next(request): Promise<UnaryResponse<I, O>> {
          const deadlineMs = clock.monotonicMs() + totalMs;
          const repeatable = isRepeatable(method, request.message);
          let failure: ConnectError | undefined;
          for await (const { endpoint, isLast } of reachable(deadlineMs, request.signal)) {
            const leftMs = Math.max(1, Math.ceil(deadlineMs - clock.monotonicMs()));
            using watched = watchForLife(endpoint, leftMs, repeatable && !isLast, request.signal, clock);
            try {
              const response = await endpoint.transport.unary<I, O>(
                method,
                watched.signal,
                leftMs,
                request.header,
                request.message as never,
                request.contextValues,
              );
              endpoint.answered();
              return response;
            } catch (err) {
              if (request.signal.aborted) throw err;
              failure = watched.silence ?? ConnectError.from(err);
              if (!goesOn(method, endpoint, failure, repeatable)) throw failure;
            }
          }
          throw failure ?? new ConnectError("no replica could be reached in time", Code.DeadlineExceeded);
        },
      });
    },

    stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: ConstructorParameters<typeof Headers>[0],
      input: Parameters<Transport["stream"]>[4],
      contextValues: Parameters<Transport["stream"]>[5],
    ) {
      return runStreamingCall<I, O>({
        interceptors,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
        ...(signal ? { signal } : {}),
        req: { ...requestOf(method, header, contextValues), stream: true, method, message: input as never },
        async next(request) {
          const first = await request.message[Symbol.asyncIterator]().next();
          const message: MessageShape<I> = first.done ? create(method.input) : first.value;
          const responseHeader = new Headers();
          const responseTrailer = new Headers();
          const deadlineMs = clock.monotonicMs() + (timeoutMs ?? Number.POSITIVE_INFINITY);

          async function* messages(): AsyncGenerator<MessageShape<O>> {
            const repeatable = isRepeatable(method, message);
            let failure: ConnectError | undefined;
            for await (const { endpoint, isLast } of reachable(deadlineMs, request.signal)) {
              const leftMs = Math.max(1, Math.ceil(deadlineMs - clock.monotonicMs()));
              using watched = watchForLife(endpoint, leftMs, repeatable && !isLast, request.signal, clock);
              let told = false;
              try {
                const response = await endpoint.transport.stream<I, O>(
                  method,
                  watched.signal,
                  timeoutMs === undefined ? undefined : leftMs,
                  request.header,
                  only(message) as never,
                  request.contextValues,
                );
                for await (const part of response.message) {
                  if (!told) watched.seen();
                  told = true;
                  yield part;
                }
                copyHeaders(response.header, responseHeader);
                copyHeaders(response.trailer, responseTrailer);
                return;
              } catch (err) {
                if (request.signal.aborted) throw err;
                failure = watched.silence ?? ConnectError.from(err);
                if (!goesOn(method, endpoint, failure, repeatable) || told) throw failure;
              }
            }
            throw failure ?? new ConnectError("no replica could be reached in time", Code.DeadlineExceeded);
          }

          return {
            stream: true,
            service: method.parent,
            method,
            header: responseHeader,
            trailer: responseTrailer,
            message: messages(),
          };
        },
      });
    },

    close: () => pool.close(),
  };
}

interface WatchedCall extends Disposable {
  /** Aborts with the call's own, and when the replica shows no sign of life and another may be asked instead. */
  readonly signal: AbortSignal;
  /** Why it was given up; undefined when it was not. */
  readonly silence: ConnectError | undefined;
  /** It has answered; nothing more to watch for. */
  seen(): void;
}

/**
 * Asks a replica that takes long to answer whether it lives. When it says nothing it is suspended, so that the calls
 * after this one go elsewhere, and this one too if it may.
 */
function watchForLife(
  endpoint: Endpoint,
  leftMs: number,
  mayGiveUp: boolean,
  callSignal: AbortSignal,
  clock: Clock,
): WatchedCall {
  const givenUp = new AbortController();
  let over = false;
  let silence: ConnectError | undefined;
  const patienceMs = Math.min(PATIENCE_MS, leftMs / 2);
  const timer = clock.setTimer(async () => {
    const health = await endpoint.transport.health(Math.min(SIGN_OF_LIFE_MS, (leftMs - patienceMs) / 2));
    if (over || health === "serving") return;
    endpoint.suspend();
    if (health === "not_serving" || !mayGiveUp) return;
    silence = new ConnectError(`${endpoint.address} shows no sign of life`, Code.Unavailable);
    givenUp.abort(silence);
  }, patienceMs);
  const end = () => {
    over = true;
    timer.clear();
  };
  return {
    signal: AbortSignal.any([callSignal, givenUp.signal]),
    get silence() {
      return silence;
    },
    seen() {
      end();
      endpoint.answered();
    },
    [Symbol.dispose]: end,
  };
}

async function* only<T>(item: T): AsyncGenerator<T> {
  yield item;
}

function copyHeaders(from: Headers, to: Headers) {
  from.forEach((value, key) => {
    to.append(key, value);
  });
}

function requestOf(
  method: DescMethodUnary | DescMethodStreaming,
  header: ConstructorParameters<typeof Headers>[0],
  contextValues: Parameters<Transport["unary"]>[5],
) {
  return {
    service: method.parent,
    requestMethod: "POST",
    url: createMethodUrl("http://localhost", method),
    header: new Headers(header),
    contextValues: contextValues ?? createContextValues(),
  };
}
