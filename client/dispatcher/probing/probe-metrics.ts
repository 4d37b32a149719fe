import { Counter, Gauge, Histogram } from "prom-client";
import type { Metrics } from "../../../common/metrics.ts";
import type { ProbeKind } from "./server-observer.ts";

/** What the figures of probing are told. */
export interface ProbeMetrics {
  probeSent(lagMs: number): void;
  probeDone(result: ProbeKind): void;
  /** What is shown as observed and withdrawn from now on. */
  observed(servers: number, withdrawn: boolean): void;
}

/** From a turn of the event loop to what makes an observer withdraw. */
const LAG_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

export function createProbeMetrics({ registry }: Pick<Metrics, "registry">): ProbeMetrics {
  const registers = [registry];
  const lag = new Histogram({
    name: "convoke_probe_lag_seconds",
    help: "How much later than it was due a probe was sent.",
    buckets: LAG_BUCKETS_S,
    registers,
  });
  const probes = new Counter({
    name: "convoke_probes_total",
    help: "Probes of conference servers, by what they came to.",
    labelNames: ["result"],
    registers,
  });
  for (const result of ["ok", "refused", "unhealthy", "timeout", "error"]) probes.inc({ result }, 0);
  const servers = new Gauge({
    name: "convoke_observed_servers",
    help: "Conference servers that this dispatcher observes.",
    registers,
  });
  const votesWithdrawn = new Gauge({
    name: "convoke_votes_withdrawn",
    help: "1 while this dispatcher has withdrawn its votes, because it does not trust what it sees; else 0.",
    registers,
  });
  return {
    probeSent: (lagMs) => lag.observe(lagMs / 1_000),
    probeDone: (result) => probes.inc({ result }),
    observed(count, withdrawn) {
      servers.set(count);
      votesWithdrawn.set(withdrawn ? 1 : 0);
    },
  };
}

/** For a dispatcher that nobody scrapes. */
export const NO_PROBE_METRICS: ProbeMetrics = { probeSent() {}, probeDone() {}, observed() {} };
