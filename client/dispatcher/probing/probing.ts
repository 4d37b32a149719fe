import type { Client } from "@connectrpc/connect";
import { type Clock, sleep } from "../../../common/clock.ts";
import { type DetectionSettings, PROBE_JITTER } from "../../../common/detection.ts";
import type { Logger } from "../../../common/logging.ts";
import { highestRanked } from "../../../common/rendezvous.ts";
import { runTasks } from "../../../common/run-tasks.ts";
import type { DispatcherService } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { type Server, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { AgentClient } from "../../transport/client.ts";
import type { Reach } from "../candidates.ts";
import type { Epoch } from "../epoch.ts";
import type { ServerTable } from "../server-table.ts";
import { createWorkGroup } from "../work-group.ts";
import type { CheckPort } from "./check-port.ts";
import { dueReport, farewellReport } from "./observation-report.ts";
import { probeServer } from "./probe.ts";
import type { ProbeMetrics } from "./probe-metrics.ts";
import { createProbeSchedule } from "./probe-schedule.ts";
import type { RegistryPicture } from "./registry-picture.ts";
import { createReporter } from "./reporter.ts";
import { createSelfTrust } from "./self-trust.ts";
import {
  afterNewIncarnation,
  afterProbe,
  afterStall,
  beginObservation,
  nextProbe,
  type ObserverState,
  type ProbeResult,
  reachOf,
} from "./server-observer.ts";
import { createStallWatch } from "./stall-watch.ts";

/** A dispatcher as an observer of conference servers, under one epoch. */
export interface Probing {
  /** How the server answers its own probes; one that it does not observe is taken to answer. */
  reach(serverId: string): Reach;
  /** What it observes; when it is over, what it observed last. */
  readonly serverIds: readonly string[];
  /**
   * Probes and reports until the signal aborts or the epoch ends.
   * @throws what went wrong inside, which is a defect: failures of calls are part of the work
   */
  run(signal: AbortSignal): Promise<void>;
}

export interface ProbingOptions {
  readonly dispatcherId: string;
  readonly epoch: Epoch;
  readonly settings: DetectionSettings;
  readonly table: Pick<ServerTable, "get" | "ids" | "onChange" | "agent" | "renewedAgent">;
  readonly registry: Pick<RegistryPicture, "ids" | "onChange">;
  readonly client: Pick<Client<typeof DispatcherService>, "reportObservations">;
  readonly checkPort: CheckPort;
  readonly metrics: ProbeMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** A server that this dispatcher observes. */
interface Observed {
  server: Server;
  /** Another number each time that the state of the server changes. */
  spell: number;
  state: ObserverState;
  probing: boolean;
  /** The client whose connection is watched. */
  watched: AgentClient | undefined;
}

/** A pause of the process of this part of a probe's time makes what fails meanwhile its own fault. */
const STALL_PART = 0.5;

export function createProbing(options: ProbingOptions): Probing {
  const { dispatcherId, epoch, settings, table, registry, metrics, clock, logger } = options;
  const { random = Math.random } = options;
  const observed = new Map<string, Observed>();
  const trust = createSelfTrust(settings);
  const stallLimitMs = settings.probeTimeoutMs * STALL_PART;
  let stalls = createStallWatch(clock.monotonicMs(), stallLimitMs);
  /** Rises with each stall: probes sent before the last one prove nothing by failing. */
  let stallCount = 0;
  /** Of the observed servers that are not DOWN. */
  const tally = { probed: 0, timingOut: 0 };
  let withdrawal: string | undefined;
  let spells = 0;
  let observedLast: readonly string[] = [];

  const reporter = createReporter({
    ...options,
    due(serverId) {
      const server = table.get(serverId);
      const written = reporter.written(serverId);
      const own = observed.get(serverId);
      if (own) {
        const { incarnation, state } = own.server;
        return dueReport({ vote: own.state.vote, incarnation, state, spell: own.spell }, written);
      }
      return server ? farewellReport(server.incarnation, written) : undefined;
    },
    withdrawal: () => trust.withdrawal,
  });

  /** The only way in which what is counted changes. */
  function update(serverId: string, change: () => void) {
    count(observed.get(serverId), -1);
    change();
    count(observed.get(serverId), 1);
  }

  function count(entry: Observed | undefined, by: number) {
    if (!entry || entry.server.state === Server_State.DOWN) return;
    tally.probed += by;
    if (entry.state.last === "timeout") tally.timingOut += by;
  }

  function noteTrust() {
    metrics.observed(observed.size, trust.withdrawal !== undefined);
    if ((withdrawal === undefined) !== (trust.withdrawal === undefined)) {
      if (trust.withdrawal === undefined) logger.info("its votes count again");
      else logger.warn({ reason: trust.withdrawal }, "withdraws its votes: it does not trust what it sees");
      reporter.withdrawalChanged();
    }
    withdrawal = trust.withdrawal;
  }

  /** To be called first whenever something happens. */
  function look(): number {
    const nowMs = clock.monotonicMs();
    const stallMs = stalls.stalledMs(nowMs);
    if (stallMs === 0) return nowMs;
    stallCount++;
    for (const entry of observed.values()) entry.state = afterStall(entry.state, nowMs, stallMs, settings);
    logger.warn(
      { stallMs: Math.round(stallMs) },
      "this process stood still; what failed meanwhile does not count",
    );
    return nowMs;
  }

  /** Takes over how things are with a server: whether it is observed, and its incarnation, state and address. */
  function follow(serverId: string) {
    const server = table.get(serverId);
    const own = observed.get(serverId);
    const mine = server && highestRanked(serverId, registry.ids, settings.observers).includes(dispatcherId);
    if (!mine) {
      if (!own) return;
      update(serverId, () => observed.delete(serverId));
      schedule.delete(serverId);
    } else if (own) {
      const reborn = server.incarnation !== own.server.incarnation;
      update(serverId, () => {
        if (reborn) own.state = afterNewIncarnation(own.state);
        if (server.state !== own.server.state) own.spell = ++spells;
        own.server = server;
      });
      if (reborn) schedule.set(serverId, clock.monotonicMs());
    } else {
      const nowMs = clock.monotonicMs();
      update(serverId, () => {
        const state = beginObservation(nowMs, settings);
        observed.set(serverId, { server, spell: ++spells, state, probing: false, watched: undefined });
      });
      // Those that begin together are spread over an interval.
      schedule.set(serverId, nowMs + random() * settings.probeIntervalMs);
    }
    reporter.touch(serverId);
  }

  function followAll() {
    const ids = new Set([...table.ids(), ...observed.keys()]);
    for (const serverId of ids) follow(serverId);
    noteTrust();
  }

  const schedule = createProbeSchedule(clock, (serverId, dueMs) => {
    const entry = observed.get(serverId);
    // What is asked already answers soon, and is asked again then.
    if (!entry || entry.probing) return;
    const lagMs = look() - dueMs;
    trust.probeSent(lagMs);
    metrics.probeSent(lagMs);
    entry.probing = true;
    group.start(() => probe(serverId, entry));
  });

  let over = AbortSignal.abort();
  let failure: { cause: unknown } | undefined;
  const stopped = new AbortController();
  const group = createWorkGroup((error) => {
    if (over.aborted) return;
    failure ??= { cause: error };
    stopped.abort();
  });

  async function probe(serverId: string, entry: Observed) {
    const { server } = entry;
    const sentBeforeStall = stallCount;
    const client = table.agent(serverId, server.incarnation);
    const result = await ask(server, client);
    const nowMs = look();
    entry.probing = false;
    metrics.probeDone(result.kind);
    if (observed.get(serverId) !== entry) return;
    const outdated = entry.server.incarnation !== server.incarnation;
    if (result.kind !== "ok" && (outdated || sentBeforeStall !== stallCount)) {
      return schedule.set(serverId, nowMs + random() * settings.probeRetryMs);
    }
    if (result.kind === "ok") watchConnection(serverId, entry);
    const { vote } = entry.state;
    update(serverId, () => {
      entry.state = afterProbe(entry.state, result, nowMs, settings);
    });
    trust.counted(tally.probed, tally.timingOut, nowMs);
    noteTrust();
    if (entry.state.vote !== vote) {
      logger.debug({ serverId, ...entry.state.vote }, "vote changed");
      reporter.touch(serverId);
    }
    schedule.set(serverId, nowMs + delayMs(entry.state, nowMs));
  }

  async function ask(server: Server, client: AgentClient | undefined): Promise<ProbeResult> {
    if (!client) return { kind: "error", detail: "its agent's address cannot be used" };
    const { serverId, incarnation } = server;
    const line = { client, renewed: () => table.renewedAgent(serverId, incarnation) };
    return probeServer(server, line, { ...options, timeoutMs: settings.probeTimeoutMs }, over);
  }

  function delayMs(state: ObserverState, nowMs: number): number {
    if (nextProbe(state, nowMs, settings) === "retry") return settings.probeRetryMs;
    return settings.probeIntervalMs * (1 - PROBE_JITTER + 2 * PROBE_JITTER * random());
  }

  /** A connection that breaks says more than silence: the server is probed at once. */
  function watchConnection(serverId: string, entry: Observed) {
    const client = table.agent(serverId, entry.server.incarnation);
    if (!client || entry.watched === client) return;
    entry.watched = client;
    client.onceDisconnected?.(() => {
      if (over.aborted || observed.get(serverId) !== entry || entry.watched !== client) return;
      entry.watched = undefined;
      schedule.set(serverId, clock.monotonicMs());
    });
  }

  /** Sees stalls even when nothing else happens, and looks at the lag once an interval. */
  async function beat(signal: AbortSignal) {
    let checkedAtMs = clock.monotonicMs();
    while (!signal.aborted) {
      await sleep(clock, stallLimitMs / 2, signal).catch(() => {});
      if (signal.aborted) return;
      const nowMs = look();
      if (nowMs - checkedAtMs < settings.probeIntervalMs) continue;
      checkedAtMs = nowMs;
      trust.check(nowMs);
      noteTrust();
    }
  }

  return {
    get serverIds() {
      return observed.size > 0 ? [...observed.keys()] : observedLast;
    },
    reach(serverId) {
      const entry = observed.get(serverId);
      return entry ? reachOf(entry.state, settings) : "answers";
    },
    async run(signal) {
      over = AbortSignal.any([signal, epoch.signal, stopped.signal]);
      stalls = createStallWatch(clock.monotonicMs(), stallLimitMs);
      const unfollow = [table.onChange(follow), registry.onChange(followAll)];
      try {
        followAll();
        await runTasks(over, beat, (until) => reporter.run(until));
      } finally {
        for (const end of unfollow) end();
        stopped.abort();
        schedule[Symbol.dispose]();
        await group.settled();
        observedLast = [...observed.keys()];
        observed.clear();
        metrics.observed(0, false);
      }
      if (failure) throw failure.cause;
    },
  };
}
