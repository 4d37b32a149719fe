import {
  create,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  toBinary,
} from "@bufbuild/protobuf";
import {
  Code,
  type ConnectError,
  createHandlerContext,
  createServiceImplSpec,
  encodeBinaryHeader,
  type MethodImplSpec,
  type ServiceImpl,
} from "@connectrpc/connect";
import { headerStatusDetailsBin, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { statusError, toStatus } from "./status.ts";

/** A service and its handlers, with the types tied together. */
export interface MountedService {
  readonly desc: DescService;
  readonly methods: readonly MethodImplSpec[];
}

/** Ties a service's descriptor to its handlers. */
export function mounted<S extends DescService>(desc: S, impl: ServiceImpl<S>): MountedService {
  return { desc, methods: Object.values(createServiceImplSpec(desc, impl).methods) };
}

/**
 * Mounts Connect handlers on a grpc-js server. Only unary and server-streaming methods; our contracts have no others.
 * Streams wait for the transport when it is full, and every handler's signal aborts on cancellation and on the deadline.
 * The signals of streams also abort when `shutdownSignal` does, whose reason is then the status of those still open;
 * unary calls go on, so that what they have begun to write has a known outcome.
 */
export function addToGrpcServer(
  server: grpc.Server,
  service: MountedService,
  shutdownSignal: AbortSignal,
): void {
  const definition: Record<string, grpc.MethodDefinition<Uint8Array, Message>> = {};
  const handlers: grpc.UntypedServiceImplementation = {};
  for (const spec of service.methods) {
    definition[spec.method.localName] = methodDefinition(spec.method);
    if (spec.kind === "unary") handlers[spec.method.localName] = unaryHandler(spec);
    if (spec.kind === "server_streaming")
      handlers[spec.method.localName] = streamHandler(spec, shutdownSignal);
  }
  server.addService(definition, handlers);
}

function unaryHandler({
  impl,
  method,
}: MethodImplSpec & { kind: "unary" }): grpc.handleUnaryCall<Uint8Array, Message> {
  return async (call, callback) => {
    const context = contextOf(call, method);
    try {
      const response = create(method.output, await impl(decode(method, call.request), context));
      callback(null, response, metadataOf(context.responseTrailer));
    } catch (err) {
      callback(toServiceError(toStatus(err)));
    } finally {
      context.abort();
    }
  };
}

function streamHandler(
  { impl, method }: MethodImplSpec & { kind: "server_streaming" },
  shutdownSignal: AbortSignal,
): grpc.handleServerStreamingCall<Uint8Array, Message> {
  return async (call) => {
    const context = contextOf(call, method, shutdownSignal);
    try {
      for await (const response of impl(decode(method, call.request), context)) {
        if (context.signal.aborted) break;
        if (!call.write(create(method.output, response))) await drained(call, context.signal);
      }
      context.signal.throwIfAborted();
      call.end();
    } catch (err) {
      call.emit("error", toServiceError(toStatus(err)));
    } finally {
      context.abort();
    }
  };
}

/** Resolves when the stream takes more, or when nobody wants it any more. */
function drained(call: grpc.ServerWritableStream<Uint8Array, Message>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** grpc-js would answer INTERNAL to what it cannot decode, as if the fault were ours; so it gets the bytes as they are. */
function decode(method: DescMethod, bytes: Uint8Array): Message {
  try {
    return fromBinary(method.input, bytes);
  } catch (err) {
    const message = `the request is not a ${method.input.typeName} in the binary encoding of protobuf`;
    throw statusError(Code.InvalidArgument, ErrorReason.INVALID_FIELD, message, { cause: err });
  }
}

function methodDefinition(method: DescMethod): grpc.MethodDefinition<Uint8Array, Message> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: (bytes) => Buffer.from(bytes),
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}

function contextOf(
  call: grpc.ServerUnaryCall<Uint8Array, Message> | grpc.ServerWritableStream<Uint8Array, Message>,
  method: DescMethod,
  shutdownSignal?: AbortSignal,
) {
  const cancelled = new AbortController();
  call.on("cancelled", () => cancelled.abort());
  const deadline = call.getDeadline();
  const deadlineMs = typeof deadline === "number" ? deadline : deadline.getTime();
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: `http://localhost/${method.parent.typeName}/${method.name}`,
    ...(Number.isFinite(deadlineMs) ? { timeoutMs: Math.max(0, deadlineMs - Date.now()) } : {}),
    requestSignal: cancelled.signal,
    ...(shutdownSignal ? { shutdownSignal } : {}),
    requestHeader: headersOf(call.metadata),
  });
}

function headersOf(metadata: grpc.Metadata): Headers {
  const headers = new Headers();
  for (const [key, values] of Object.entries(metadata.toJSON())) {
    for (const value of values)
      headers.append(key, typeof value === "string" ? value : encodeBinaryHeader(value));
  }
  return headers;
}

function metadataOf(headers: Headers): grpc.Metadata {
  const metadata = new grpc.Metadata();
  headers.forEach((value, key) => {
    metadata.add(key, value);
  });
  return metadata;
}

/** The same status, message and details that Connect would put into the trailers. */
function toServiceError(error: ConnectError): Partial<grpc.StatusObject> & Error {
  const trailers = new Headers();
  setTrailerStatus(trailers, error);
  const metadata = new grpc.Metadata();
  const details = trailers.get(headerStatusDetailsBin);
  if (details) metadata.set("grpc-status-details-bin", Buffer.from(details, "base64"));
  return Object.assign(new Error(error.rawMessage), {
    code: error.code as number as grpc.status,
    details: error.rawMessage,
    metadata,
  });
}
