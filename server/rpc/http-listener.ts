import { createServer, type ServerResponse } from "node:http";
import { Code, type ConnectRouter, type MethodImplSpec } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { answerMetrics, answerText } from "../../common/http-answers.ts";
import { bindHttp, HEADERS_TIMEOUT_MS } from "../../common/http-port.ts";
import type { Metrics } from "../../common/metrics.ts";
import type { MountedService } from "../../common/rpc/grpc-adapter.ts";
import { statusError } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";

/** An HTTP/1.1 port for browsers and curl: Connect, gRPC-Web and JSON, the probes of a supervisor, and metrics. */
export interface HttpListener {
  /** host:port as bound. */
  readonly address: string;
  /** Ends the open streams, gives the calls under way `graceMs` to finish, and cuts off the rest. */
  stop(graceMs: number): Promise<void>;
}

export interface HttpListenerOptions {
  /** host:port to bind; port 0 takes a free one. */
  readonly address: string;
  readonly services: readonly MountedService[];
  /** Whether `/readyz` is green. */
  isReady(): boolean;
  /** What `/metrics` shows; without it there is none. */
  readonly metrics?: Pick<Metrics, "render">;
}

/** @throws {Error} when the address cannot be bound, saying which and why */
export async function listenHttp({
  address,
  services,
  isReady,
  metrics,
}: HttpListenerOptions): Promise<HttpListener> {
  const shutdown = new AbortController();
  const handler = connectNodeAdapter({
    routes: (router) => {
      for (const service of services) addToRouter(router, service, shutdown.signal);
    },
    readMaxBytes: 4 * 1024 * 1024,
    fallback: ({ url }, response) => {
      if (metrics && url?.split("?")[0] === "/metrics")
        void answerMetrics(response as ServerResponse, metrics);
      else probe(url, response as ServerResponse, isReady);
    },
  });
  const server = createServer({ headersTimeout: HEADERS_TIMEOUT_MS }, (request, response) => {
    // A connection that was busy when the server began to stop would else be kept for the client's next call.
    response.once("finish", () => {
      if (shutdown.signal.aborted) setImmediate(() => server.closeIdleConnections());
    });
    handler(request, response);
  });
  return {
    address: await bindHttp(server, address),
    async stop(graceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      shutdown.abort(
        statusError(Code.Unavailable, ErrorReason.SHUTTING_DOWN, "the server is shutting down; call again", {
          retryAfterMs: 1000,
        }),
      );
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}

function addToRouter(router: ConnectRouter, { methods }: MountedService, shutdownSignal: AbortSignal) {
  for (const spec of methods) {
    const impl = spec.kind === "server_streaming" ? untilShutdown(spec.impl, shutdownSignal) : spec.impl;
    router.rpc(spec.method, impl as never);
  }
}

type StreamImpl = Extract<MethodImplSpec, { kind: "server_streaming" }>["impl"];

/** Streams end when the server stops; unary calls go on, so that what they have begun to write has a known outcome. */
function untilShutdown(impl: StreamImpl, shutdownSignal: AbortSignal): StreamImpl {
  return async function* (request, context) {
    const stopping = new AbortController();
    const stop = () => stopping.abort(shutdownSignal.reason);
    shutdownSignal.addEventListener("abort", stop, { once: true });
    if (shutdownSignal.aborted) stop();
    try {
      yield* impl(request, { ...context, signal: AbortSignal.any([context.signal, stopping.signal]) });
    } finally {
      shutdownSignal.removeEventListener("abort", stop);
    }
  };
}

/** `/healthz`: the process lives. `/readyz`: it follows the store and takes calls. */
function probe(url: string | undefined, response: ServerResponse, isReady: () => boolean) {
  const path = url?.split("?")[0];
  if (path === "/healthz") return answerText(response, 200, "ok");
  if (path === "/readyz")
    return isReady() ? answerText(response, 200, "ok") : answerText(response, 503, "not ready");
  return answerText(response, 404, "not found; calls are POST /convoke.v1.<Service>/<Method>");
}
