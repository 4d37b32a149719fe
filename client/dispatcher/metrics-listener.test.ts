import { expect, test } from "vitest";
import { createMetrics } from "../../common/metrics.ts";
import { listenMetrics } from "./metrics-listener.ts";
import { createProbeMetrics } from "./probing/probe-metrics.ts";

test("a dispatcher's figures can be scraped, and a supervisor sees that it lives", async () => {
  const metrics = createMetrics();
  const probes = createProbeMetrics(metrics);
  await using listener = await listenMetrics({ address: "127.0.0.1:0", metrics });
  const get = (path: string, init?: RequestInit) => fetch(`http://${listener.address}${path}`, init);
  probes.probeSent(3);
  probes.probeDone("refused");
  probes.observed(7, true);
  const scraped = await get("/metrics");
  expect(scraped.headers.get("content-type")).toContain("text/plain");
  const text = await scraped.text();
  expect(text).toContain('convoke_probe_lag_seconds_bucket{le="0.005"} 1');
  expect(text).toContain('convoke_probe_lag_seconds_bucket{le="0.0025"} 0');
  expect(text).toContain('convoke_probes_total{result="refused"} 1');
  expect(text).toContain('convoke_probes_total{result="timeout"} 0');
  expect(text).toContain("convoke_observed_servers 7");
  expect(text).toContain("convoke_votes_withdrawn 1");
  expect((await get("/healthz")).status).toBe(200);
  expect((await get("/")).status).toBe(404);
  expect((await get("/metrics", { method: "POST" })).status).toBe(405);
  await expect(listenMetrics({ address: listener.address, metrics })).rejects.toThrow("cannot listen on");
});
