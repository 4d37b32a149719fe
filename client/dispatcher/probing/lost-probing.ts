import type { Clock } from "../../../common/clock.ts";
import { type DetectionSettings, PROBE_JITTER } from "../../../common/detection.ts";
import type { Logger } from "../../../common/logging.ts";
import type { ServerTable } from "../server-table.ts";
import { createWorkGroup } from "../work-group.ts";
import type { CheckPort } from "./check-port.ts";
import { probeServer } from "./probe.ts";
import type { ProbeMetrics } from "./probe-metrics.ts";
import { createProbeSchedule, type ProbeSchedule } from "./probe-schedule.ts";

/**
 * What an observer does between two epochs while the control plane or its store is lost: it goes on probing, and says so,
 * which is all that keeps the agents from ending their conferences. It votes nothing, having no epoch to do so under, and
 * its failures mean nothing.
 */
export interface LostProbing {
  /** Probes these servers from now on, once an interval, each as it was seen last. */
  begin(serverIds: readonly string[], settings: DetectionSettings): void;
  /** Stops that; nothing when it was not begun. */
  end(): void;
  /**
   * Lives until the signal aborts, then waits for what is under way.
   * @throws what went wrong inside, which is a defect
   */
  run(signal: AbortSignal): Promise<void>;
}

export interface LostProbingOptions {
  readonly dispatcherId: string;
  readonly table: Pick<ServerTable, "get" | "agent" | "renewedAgent">;
  readonly checkPort: CheckPort;
  readonly metrics: ProbeMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** One loss of the control plane. */
interface Round {
  readonly settings: DetectionSettings;
  readonly schedule: ProbeSchedule;
  readonly ended: AbortController;
}

export function createLostProbing(options: LostProbingOptions): LostProbing {
  const { table, metrics, clock, logger, random = Math.random } = options;
  const failed = Promise.withResolvers<never>();
  // Whoever runs this hears of it; before that nobody does.
  failed.promise.catch(() => {});
  const group = createWorkGroup(failed.reject);
  let round: Round | undefined;

  async function probe(serverId: string, { settings, schedule, ended }: Round) {
    const { signal } = ended;
    const server = table.get(serverId);
    // Removed, as somebody could still tell; it is not coming back as what was observed.
    if (!server) return;
    const client = table.agent(serverId, server.incarnation);
    if (client) {
      const line = { client, renewed: () => table.renewedAgent(serverId, server.incarnation) };
      const how = { ...options, timeoutMs: settings.probeTimeoutMs, controlPlaneLost: true };
      try {
        metrics.probeDone((await probeServer(server, line, how, signal)).kind);
      } catch (err) {
        if (signal.aborted) return;
        throw err;
      }
    }
    if (signal.aborted) return;
    const delayMs = settings.probeIntervalMs * (1 - PROBE_JITTER + 2 * PROBE_JITTER * random());
    schedule.set(serverId, clock.monotonicMs() + delayMs);
  }

  function end() {
    if (!round) return;
    round.ended.abort();
    round.schedule[Symbol.dispose]();
    round = undefined;
    metrics.observed(0, false);
    logger.info("probing without a registration is over");
  }

  return {
    begin(serverIds, settings) {
      end();
      const schedule = createProbeSchedule(clock, (serverId, dueMs) => {
        metrics.probeSent(clock.monotonicMs() - dueMs);
        group.start(() => probe(serverId, next));
      });
      const next: Round = { settings, schedule, ended: new AbortController() };
      round = next;
      const nowMs = clock.monotonicMs();
      for (const serverId of serverIds) schedule.set(serverId, nowMs + random() * settings.probeIntervalMs);
      metrics.observed(serverIds.length, false);
      logger.warn(
        { servers: serverIds.length },
        "the control plane does not answer; probing goes on without a registration",
      );
    },
    end,
    async run(signal) {
      const stopped = Promise.withResolvers<void>();
      const stop = () => stopped.resolve();
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
      try {
        await Promise.race([stopped.promise, failed.promise]);
      } finally {
        signal.removeEventListener("abort", stop);
        end();
        await group.settled();
      }
    },
  };
}
