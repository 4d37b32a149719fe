import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  decodeBinaryHeader,
  encodeBinaryHeader,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { createMethodUrl, runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { askHealth, type Health, isConnected, onceDisconnected } from "./connectivity.ts";

/** A Connect transport over a grpc-js channel: typed clients, with the channel's reconnects and keepalive. */
export interface GrpcTransport extends Transport {
  /** Connects if need be, and tells within `timeoutMs` whether there is a connection. */
  connected(timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  /** What the server says of itself within `timeoutMs`. */
  health(timeoutMs: number): Promise<Health>;
  /** Calls back once, as soon as no connection stands. */
  onceDisconnected(listener: () => void): void;
  /** Closes the channel; calls under way fail with CANCELLED. */
  close(): void;
}

export interface GrpcTransportOptions {
  /** host:port of the server. */
  readonly address: string;
  /** The deadline of calls that bring none, in milliseconds. Streams have none unless given. Default 10,000. */
  readonly defaultTimeoutMs?: number;
  readonly interceptors?: readonly Interceptor[];
  /** HTTP/2 pings, by which a server that vanished without a word is noticed. Default: every 10 s, 5 s to answer. */
  readonly keepalive?: Keepalive;
}

export interface Keepalive {
  readonly everyMs: number;
  /** A ping that is not answered by then cuts the connection, and fails the calls and streams on it. */
  readonly timeoutMs: number;
}

/** Where there is no other server to turn to, patience costs nothing. */
const PATIENT_KEEPALIVE: Keepalive = { everyMs: 10_000, timeoutMs: 5_000 };

/** A server that comes back is found again within about a second. */
const MAX_RECONNECT_BACKOFF_MS = 1_000;

const DEFAULT_TIMEOUT_MS = 10_000;

export function createGrpcTransport(options: GrpcTransportOptions): GrpcTransport {
  const interceptors = [...(options.interceptors ?? [])];
  const defaultTimeoutMs = options.defaultTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const keepalive = options.keepalive ?? PATIENT_KEEPALIVE;
  const client = new grpc.Client(options.address, grpc.credentials.createInsecure(), {
    "grpc.keepalive_time_ms": keepalive.everyMs,
    "grpc.keepalive_timeout_ms": keepalive.timeoutMs,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": MAX_RECONNECT_BACKOFF_MS,
    // Our own clients retry what is safe; grpc-js must not repeat what may have been carried out.
    "grpc.enable_retries": 0,
    // Each transport has its own connection, so that closing or cutting one leaves the others alone.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": 16 * 1024 * 1024,
  });

  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: ConstructorParameters<typeof Headers>[0],
      input: Parameters<Transport["unary"]>[4],
      contextValues: Parameters<Transport["unary"]>[5],
    ) {
      const deadlineMs = timeoutMs ?? defaultTimeoutMs;
      return runUnaryCall<I, O>({
        interceptors,
        timeoutMs: deadlineMs,
        ...(signal ? { signal } : {}),
        req: { ...requestOf(method, header, contextValues), stream: false, method, message: input as never },
        next: (request) =>
          new Promise((resolve, reject) => {
            const responseHeader = new Headers();
            const responseTrailer = new Headers();
            let message: MessageShape<O> | undefined;
            let failure: unknown;
            const call = client.makeUnaryRequest<MessageShape<I>, MessageShape<O>>(
              pathOf(method),
              (value) => Buffer.from(toBinary(method.input, value)),
              (bytes) => fromBinary(method.output, bytes),
              request.message,
              metadataOf(request.header),
              { deadline: Date.now() + deadlineMs },
              (err, value) => {
                if (err) failure = toConnectError(err);
                else message = value;
              },
            );
            const cancel = () => call.cancel();
            if (request.signal.aborted) cancel();
            request.signal.addEventListener("abort", cancel, { once: true });
            call.on("metadata", (metadata) => copyMetadata(metadata, responseHeader));
            call.on("status", ({ metadata }) => {
              request.signal.removeEventListener("abort", cancel);
              copyMetadata(metadata, responseTrailer);
              // The callback and this event come in no promised order within one turn.
              queueMicrotask(() => {
                if (message === undefined) {
                  return reject(failure ?? new ConnectError("the server sent no response", Code.Internal));
                }
                resolve({
                  stream: false,
                  service: method.parent,
                  method,
                  header: responseHeader,
                  message,
                  trailer: responseTrailer,
                });
              });
            });
          }),
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
          if (method.methodKind !== "server_streaming") {
            throw new ConnectError(
              `${method.name} is ${method.methodKind}, which no contract here has`,
              Code.Unimplemented,
            );
          }
          const first = await request.message[Symbol.asyncIterator]().next();
          const call = client.makeServerStreamRequest<MessageShape<I>, MessageShape<O>>(
            pathOf(method),
            (value) => Buffer.from(toBinary(method.input, value)),
            (bytes) => fromBinary(method.output, bytes),
            first.done ? create(method.input) : first.value,
            metadataOf(request.header),
            timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
          );
          // Who iterates gets the error as well; nobody may be iterating any more when it comes.
          call.on("error", () => {});
          const cancel = () => call.cancel();
          if (request.signal.aborted) cancel();
          request.signal.addEventListener("abort", cancel, { once: true });
          const responseHeader = new Headers();
          const responseTrailer = new Headers();
          call.on("metadata", (metadata) => copyMetadata(metadata, responseHeader));
          call.on("status", ({ metadata }) => {
            request.signal.removeEventListener("abort", cancel);
            copyMetadata(metadata, responseTrailer);
          });
          return {
            stream: true,
            service: method.parent,
            method,
            header: responseHeader,
            trailer: responseTrailer,
            message: messagesOf(call),
          };
        },
      });
    },

    connected: (timeoutMs, signal) => isConnected(client, timeoutMs, signal),
    health: (timeoutMs) => askHealth(client, timeoutMs),
    onceDisconnected: (listener) => onceDisconnected(client, listener),

    close() {
      client.close();
    },
  };
}

async function* messagesOf<T>(call: grpc.ClientReadableStream<T>): AsyncGenerator<T> {
  try {
    for await (const message of call) yield message as T;
  } catch (err) {
    throw toConnectError(err);
  }
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

function pathOf(method: DescMethodUnary | DescMethodStreaming) {
  return `/${method.parent.typeName}/${method.name}`;
}

function metadataOf(headers: Headers): grpc.Metadata {
  const metadata = new grpc.Metadata();
  headers.forEach((value, key) => {
    if (key.endsWith("-bin")) metadata.add(key, Buffer.from(decodeBinaryHeader(value)));
    else metadata.add(key, value);
  });
  return metadata;
}

function copyMetadata(metadata: grpc.Metadata, headers: Headers) {
  for (const [key, values] of Object.entries(metadata.toJSON())) {
    for (const value of values)
      headers.append(key, typeof value === "string" ? value : encodeBinaryHeader(value));
  }
}

/** grpc-js reports a failed call as an Error with code, details and metadata. */
function toConnectError(err: unknown): ConnectError {
  if (!isServiceError(err)) return ConnectError.from(err);
  const trailers = new Headers();
  copyMetadata(err.metadata, trailers);
  trailers.set("grpc-status", String(err.code));
  if (!trailers.has("grpc-message")) trailers.set("grpc-message", encodeURIComponent(err.details));
  return findTrailerError(trailers) ?? new ConnectError(err.details, err.code as number as Code);
}

function isServiceError(err: unknown): err is grpc.ServiceError {
  return err instanceof Error && "code" in err && typeof err.code === "number" && "metadata" in err;
}
