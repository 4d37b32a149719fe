import {
  create,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type ConnectError,
  createHandlerContext,
  createServiceImplSpec,
  encodeBinaryHeader,
  type MethodImplSpec,
  type ServiceImpl,
} from "@connectrpc/connect";
import { headerStatusDetailsBin, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { toStatus } from "./status.ts";

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
 * Streams wait for the transport when it is full, and every handler's signal aborts on cancellation, on the deadline,
 * and when `shutdownSignal` aborts, whose reason is then the status of the streams still open.
 */
export function addToGrpcServer(
  server: grpc.Server,
  service: MountedService,
  shutdownSignal: AbortSignal,
): void {
  const definition: Record<string, grpc.MethodDefinition<Message, Message>> = {};
  const handlers: grpc.UntypedServiceImplementation = {};
  for (const spec of service.methods) {
    definition[spec.method.localName] = methodDefinition(spec.method);
    if (spec.kind === "unary") handlers[spec.method.localName] = unaryHandler(spec, shutdownSignal);
    if (spec.kind === "server_streaming")
      handlers[spec.method.localName] = streamHandler(spec, shutdownSignal);
  }
  server.addService(definition, handlers);
}

function unaryHandler(
  { impl, method }: MethodImplSpec & { kind: "unary" },
  shutdownSignal: AbortSignal,
): grpc.handleUnaryCall<Message, Message> {
  return async (call, callback) => {
    const context = contextOf(call, method, shutdownSignal);
    try {
      const response = create(method.output, await impl(call.request, context));
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
): grpc.handleServerStreamingCall<Message, Message> {
  return async (call) => {
    const context = contextOf(call, method, shutdownSignal);
    try {
      for await (const response of impl(call.request, context)) {
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
function drained(call: grpc.ServerWritableStream<Message, Message>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
  });
}

function methodDefinition(method: DescMethod): grpc.MethodDefinition<Message, Message> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: (message) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}

function contextOf(
  call: grpc.ServerUnaryCall<Message, Message> | grpc.ServerWritableStream<Message, Message>,
  method: DescMethod,
  shutdownSignal: AbortSignal,
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
    shutdownSignal,
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
