import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";

type StreamingMethod = (request: unknown, options?: CallOptions) => AsyncIterable<unknown>;

/**
 * A Connect client whose server streams end when their consumer leaves the loop. Connect's own go on until the server
 * says something more, since their iterators leave out `return`; a quiet watch would keep its process alive.
 */
export function createLeavableClient<S extends DescService>(service: S, transport: Transport): Client<S> {
  const client = createClient(service, transport);
  const methods = client as Record<string, StreamingMethod>;
  for (const { localName, methodKind } of service.methods) {
    const original = methods[localName];
    if (methodKind === "server_streaming" && original) methods[localName] = leavable(original);
  }
  return client;
}

function leavable(method: StreamingMethod): StreamingMethod {
  return async function* (request, options) {
    const left = new AbortController();
    const signal = options?.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    try {
      yield* method(request, { ...options, signal });
    } finally {
      left.abort();
    }
  };
}
