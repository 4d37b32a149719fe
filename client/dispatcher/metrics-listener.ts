import { createServer, type ServerResponse } from "node:http";
import { formatAddress, parseAddress } from "../../common/address.ts";
import type { Metrics } from "../../common/metrics.ts";

/** An HTTP port for Prometheus and a supervisor: `/metrics`, and `/healthz`, which says that the process lives. */
export interface MetricsListener extends AsyncDisposable {
  /** host:port as bound. */
  readonly address: string;
}

/** Requests are a line; a peer that sends its headers slower than this means no good. */
const HEADERS_TIMEOUT_MS = 10_000;

/** @throws {Error} when the address cannot be bound, saying which and why */
export async function listenMetrics({
  address,
  metrics,
}: {
  readonly address: string;
  readonly metrics: Pick<Metrics, "render">;
}): Promise<MetricsListener> {
  const server = createServer({ headersTimeout: HEADERS_TIMEOUT_MS }, (request, response) => {
    const path = request.url?.split("?")[0];
    if (request.method !== "GET" && request.method !== "HEAD")
      answer(response, 405, "only GET is served here");
    else if (path === "/metrics") void scrape(metrics, response);
    else if (path === "/healthz") answer(response, 200, "ok");
    else answer(response, 404, "not found; there are /metrics and /healthz");
  });
  const { host, port } = parseAddress(address);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (err) =>
      reject(new Error(`cannot listen on ${address}: ${err.message}`, { cause: err })),
    );
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return {
    address: formatAddress(host, typeof bound === "object" && bound ? bound.port : port),
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function scrape(metrics: Pick<Metrics, "render">, response: ServerResponse) {
  try {
    const { contentType, text } = await metrics.render();
    response.writeHead(200, { "content-type": contentType }).end(text);
  } catch {
    answer(response, 500, "the metrics could not be read");
  }
}

function answer(response: ServerResponse, status: number, text: string) {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}
