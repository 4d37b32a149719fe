import { type Clock, systemClock } from "../../common/clock.ts";
import type { DetectionSettings } from "../../common/detection.ts";
import type { Logger } from "../../common/logging.ts";
import { addProcessMetrics, createMetrics } from "../../common/metrics.ts";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import {
  type AgentClient,
  type ConvokeClient,
  createAgentClient,
  createConvokeClient,
} from "../transport/client.ts";
import type { Epoch } from "./epoch.ts";
import { createFigures } from "./figures.ts";
import { followServers, refreshServers } from "./follow-servers.ts";
import { listenMetrics } from "./metrics-listener.ts";
import { compileDispatcherOptions, type DispatcherOptions } from "./options.ts";
import { createPipeline } from "./pipeline.ts";
import { type CheckPort, checkPort } from "./probing/check-port.ts";
import { createLostProbing } from "./probing/lost-probing.ts";
import { createProbeMetrics } from "./probing/probe-metrics.ts";
import { createProbing } from "./probing/probing.ts";
import { createRegistryPicture } from "./probing/registry-picture.ts";
import { createRegistration } from "./registration.ts";
import { runBeside } from "./run-beside.ts";
import { createServerTable } from "./server-table.ts";
import { createStats, type DispatcherStats, logStats } from "./stats.ts";
import { runTicks } from "./ticks.ts";

export { DispatcherReplacedError } from "./epoch.ts";
export {
  type CompiledDispatcherOptions,
  compileDispatcherOptions,
  type DispatcherOptions,
} from "./options.ts";

/** What a dispatcher needs besides its options. */
export interface DispatcherContext {
  readonly logger: Logger;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** The control plane; by default a client of `endpoint`, which the dispatcher then closes. */
  readonly client?: Pick<ConvokeClient, "dispatchers" | "servers">;
  /** Makes a client of the agent at an address. Default: over gRPC. */
  readonly connectAgent?: (address: string) => AgentClient;
  /** Asks TCP whether an agent's port is open. Default: a connection to it. */
  readonly checkPort?: CheckPort;
  /** Counted up as the work goes on. */
  readonly stats?: DispatcherStats;
}

/**
 * Runs a dispatcher: registers, takes its share each tick, places and starts the conferences, and commits them to the
 * dispatch table; beside that it probes the conference servers that it observes, and reports those that fail. When the
 * signal aborts it finishes what it has started, gives back the rest, and deregisters. It goes
 * on for as long as the control plane cannot be reached, and starts over when its registration is lost. In between it
 * probes on, so that the agents know that they are not alone: an outage of the control plane ends no conference.
 *
 * @throws {TypeError} when an option is not valid
 * @throws {DispatcherReplacedError} when another process registered under the same ID
 * @throws {ConnectError} INVALID_ARGUMENT when the control plane refuses the registration as such
 */
export async function runDispatcher(
  options: DispatcherOptions,
  signal: AbortSignal,
  context: DispatcherContext,
): Promise<void> {
  const compiled = compileDispatcherOptions(options);
  const { id, endpoint, windowMs, tickMs, ttlMs, weight, labels, startRate, stopGraceMs } = compiled;
  const { clock = systemClock, connectAgent = createAgentClient, stats = createStats() } = context;
  const logger = context.logger.child({ dispatcherId: id });
  await using resources = new AsyncDisposableStack();
  const metrics = createMetrics();
  const probeMetrics = createProbeMetrics(metrics);
  if (compiled.metrics !== undefined) {
    addProcessMetrics(metrics);
    const listener = resources.use(await listenMetrics({ address: compiled.metrics, metrics }));
    logger.info({ metrics: listener.address }, "serving metrics");
  }
  const { dispatchers, servers } = context.client ?? resources.use(createConvokeClient({ endpoint }));
  const table = resources.use(createServerTable({ clock, connectAgent }));
  const figures = createFigures({ read: (work) => refreshServers(table, servers, work), clock, logger });
  const registry = createRegistryPicture({ client: dispatchers, clock, logger });
  const port = context.checkPort ?? checkPort;
  const lostProbing = createLostProbing({
    dispatcherId: id,
    table,
    checkPort: port,
    metrics: probeMetrics,
    clock,
    logger,
  });
  let observedLast:
    | { readonly serverIds: readonly string[]; readonly settings: DetectionSettings }
    | undefined;
  const registration = createRegistration({
    dispatcherId: id,
    ttlMs,
    weight,
    labels,
    client: dispatchers,
    clock,
    logger,
    onControlPlaneLost: (lost) => {
      if (lost && observedLast) lostProbing.begin(observedLast.serverIds, observedLast.settings);
      else lostProbing.end();
    },
  });

  async function withEpoch(epoch: Epoch, settings: DetectionSettings, stop: AbortSignal) {
    const common = { dispatcherId: id, epoch, client: dispatchers, clock, logger };
    const probing = createProbing({
      ...common,
      settings,
      table,
      registry,
      checkPort: port,
      metrics: probeMetrics,
    });
    const { reach } = probing;
    const pipeline = createPipeline({
      ...common,
      table,
      figures,
      reach,
      startRate,
      stats,
    });
    const anyServer = () =>
      table
        .placeable(reach)
        .some((server) => server.state === Server_State.UP && !server.cordoned && server.reach !== "fails");
    await runBeside(
      async (failed) => {
        await runTicks(
          { ...common, pipeline, figures, anyServer, windowMs, tickMs },
          AbortSignal.any([stop, failed]),
        );
        if (epoch.valid()) await pipeline.drain(stopGraceMs);
      },
      (over) => pipeline.run(over),
      (over) => probing.run(over),
    );
    observedLast = { serverIds: probing.serverIds, settings };
  }

  logger.info({ endpoint, windowMs, tickMs, ttlMs, weight, startRate }, "dispatcher starts");
  await runBeside(
    // A failure beside it stops the work as an ordinary stop does, heartbeats included, and is thrown afterwards.
    (failed) => {
      const stop = AbortSignal.any([signal, failed]);
      return registration.run(stop, (epoch, settings) => withEpoch(epoch, settings, stop));
    },
    (over) => followServers({ table, client: servers, clock, logger }, over),
    (over) => registry.follow(over),
    (over) => lostProbing.run(over),
    (over) => logStats(stats, clock, logger, over),
  );
  logger.info({ ...stats }, "dispatcher stopped");
}
