import { createServer } from "node:http";
import { answerMetrics, answerText } from "../../common/http-answers.ts";
import { bindHttp, HEADERS_TIMEOUT_MS } from "../../common/http-port.ts";
import type { Metrics } from "../../common/metrics.ts";

/** An HTTP port for Prometheus and a supervisor: `/metrics`, and `/healthz`, which says that the process lives. */
export interface MetricsListener extends AsyncDisposable {
  /** host:port as bound. */
  readonly address: string;
}

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
      answerText(response, 405, "only GET is served here");
    else if (path === "/metrics") void answerMetrics(response, metrics);
    else if (path === "/healthz") answerText(response, 200, "ok");
    else answerText(response, 404, "not found; there are /metrics and /healthz");
  });
  return {
    address: await bindHttp(server, address),
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
