import { collectDefaultMetrics, Histogram, Registry } from "prom-client";

/** Figures of one process or one part of it, as Prometheus scrapes them. */
export interface Metrics {
  /** Where the figures are registered. */
  readonly registry: Registry;
  /** Counts one finished call. */
  callServed(call: ServedCall): void;
  /** All figures in the text format, with its media type. */
  render(): Promise<{ readonly contentType: string; readonly text: string }>;
}

export interface ServedCall {
  /** `package.Service/Method`. */
  readonly method: string;
  /** `OK`, or the name of the status, such as `Unavailable`. */
  readonly code: string;
  readonly durationMs: number;
}

/** From a read out of memory to the deadline of a call. */
const DURATION_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function createMetrics(): Metrics {
  const registry = new Registry();
  const duration = new Histogram({
    name: "convoke_rpc_duration_seconds",
    help: "How long calls took, streams included, by method and status.",
    labelNames: ["method", "code"],
    buckets: DURATION_BUCKETS_S,
    registers: [registry],
  });
  return {
    registry,
    callServed: ({ method, code, durationMs }) => duration.observe({ method, code }, durationMs / 1000),
    render: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}

/** Adds what Prometheus expects of every process: CPU, memory, handles, event loop lag. Once a process. */
export function addProcessMetrics({ registry }: Metrics): void {
  collectDefaultMetrics({ register: registry });
}
