/**
 * What it costs a dispatcher to observe many servers. `node test/bench/probing.bench.ts [SECONDS] [SERVERS…]`: endpoints of
 * AgentService in processes of their own, each on a port of its own, so that the observer has as many connections, HTTP/2
 * sessions and pings as with servers on as many machines; only the network is faster. Interval 1 s, profile lan. Beside it
 * stands the same schedule with nothing to do.
 * The promise: 2,000 servers within one core.
 */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import pino from "pino";
import { createEpoch } from "../../client/dispatcher/epoch.ts";
import { checkPort } from "../../client/dispatcher/probing/check-port.ts";
import { createProbeSchedule } from "../../client/dispatcher/probing/probe-schedule.ts";
import { createProbing } from "../../client/dispatcher/probing/probing.ts";
import { createServerTable } from "../../client/dispatcher/server-table.ts";
import { createAgentClient } from "../../client/transport/client.ts";
import { systemClock as clock } from "../../common/clock.ts";
import { compileDetection } from "../../common/detection.ts";
import { ReportObservationsResponseSchema } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";

const SECONDS = Number(process.argv[2] ?? 20);
const SIZES = process.argv.length > 3 ? process.argv.slice(3).map(Number) : [500, 1_000, 2_000];
const SETTINGS = compileDetection();
/** After this all connections stand and the first probes are over. */
const WARM_UP_MS = 5_000;
/** Listening ports of one process. */
const PORTS_EACH = 1_000;

async function startEndpoints(count: number): Promise<{ children: ChildProcess[]; ports: number[] }> {
  const script = fileURLToPath(new URL("keepalive-endpoints.ts", import.meta.url));
  const sizes = Array.from({ length: Math.ceil(count / PORTS_EACH) }, (_, index) =>
    Math.min(PORTS_EACH, count - index * PORTS_EACH),
  );
  const children = sizes.map((size) => fork(script, [String(size)]));
  const lists = await Promise.all(
    children.map(async (child) => (await once(child, "message"))[0] as number[]),
  );
  return { children, ports: lists.flat() };
}

type Row = Readonly<Record<string, string | number>>;

/** The value below which so large a part of them lies. */
function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

function rowOf(
  what: string,
  servers: number,
  lags: readonly number[],
  seconds: number,
  { user, system }: NodeJS.CpuUsage,
): Row {
  const sorted = lags.toSorted((a, b) => a - b);
  return {
    what,
    servers,
    "due/s": Math.round(sorted.length / seconds),
    "CPU s/s": ((user + system) / 1e6 / seconds).toFixed(2),
    "lag p50 ms": quantile(sorted, 0.5).toFixed(1),
    "lag p99 ms": quantile(sorted, 0.99).toFixed(1),
    "lag max ms": quantile(sorted, 1).toFixed(1),
  };
}

async function measure(count: number): Promise<Row> {
  const { children, ports } = await startEndpoints(count);
  const stop = new AbortController();
  using table = createServerTable({ clock, connectAgent: createAgentClient });
  const servers = ports.map((port) =>
    create(ServerSchema, {
      serverId: `s${port}`,
      agentAddress: `127.0.0.1:${port}`,
      incarnation: 1n,
      capacity: 1,
      state: Server_State.UP,
    }),
  );
  table.replaceAll(
    servers.map((server) => ({ server, revision: 1n })),
    { revision: 1n, resync: true },
  );
  const lags: number[] = [];
  const results = new Map<string, number>();
  let withdrawals = 0;
  const probing = createProbing({
    dispatcherId: "d1",
    epoch: createEpoch({
      dispatcherId: "d1",
      epoch: 1n,
      ttlMs: 3_600_000,
      sentAtMs: clock.monotonicMs(),
      clock,
    }),
    settings: SETTINGS,
    table,
    registry: { ids: new Set(["d1"]), onChange: () => () => {} },
    client: { reportObservations: async () => create(ReportObservationsResponseSchema) },
    checkPort,
    metrics: {
      probeSent: (lagMs) => lags.push(lagMs),
      probeDone: (result) => results.set(result, (results.get(result) ?? 0) + 1),
      observed: (_servers, withdrawn) => {
        if (withdrawn) withdrawals++;
      },
    },
    clock,
    logger: pino({ level: "silent" }),
  });
  const running = probing.run(stop.signal);
  await pause(WARM_UP_MS);
  lags.length = 0;
  results.clear();
  withdrawals = 0;
  const cpu = process.cpuUsage();
  const startMs = clock.monotonicMs();
  await pause(SECONDS * 1_000);
  const seconds = (clock.monotonicMs() - startMs) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  const row = {
    ...rowOf("probes", count, lags, seconds, { user, system }),
    failed: [...results].reduce((sum, [kind, times]) => (kind === "ok" ? sum : sum + times), 0),
    withdrawn: withdrawals > 0 ? "yes" : "no",
  };
  stop.abort();
  await running;
  for (const child of children) child.disconnect();
  return row;
}

/** The schedule with nothing to do: what this machine is late by, and costs, on its own. */
async function measureIdle(count: number): Promise<Row> {
  const lags: number[] = [];
  using schedule = createProbeSchedule(clock, (serverId, dueMs) => {
    const nowMs = clock.monotonicMs();
    lags.push(nowMs - dueMs);
    schedule.set(serverId, nowMs + SETTINGS.probeIntervalMs * (0.9 + 0.2 * Math.random()));
  });
  const startMs = clock.monotonicMs();
  for (let index = 0; index < count; index++)
    schedule.set(`s${index}`, startMs + Math.random() * SETTINGS.probeIntervalMs);
  const cpu = process.cpuUsage();
  await pause(SECONDS * 1_000);
  return rowOf("no probes", count, lags, (clock.monotonicMs() - startMs) / 1_000, process.cpuUsage(cpu));
}

const rows: Row[] = [];
for (const size of SIZES) rows.push(await measureIdle(size), await measure(size));
console.table(rows);
// The epoch's own timer would keep the process for an hour.
process.exit();
