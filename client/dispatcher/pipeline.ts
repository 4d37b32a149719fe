import type { Client } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import {
  type DispatcherService,
  type Task,
  TaskRelease_Cause,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { createAgentCalls } from "./agent-calls.ts";
import type { Reach } from "./candidates.ts";
import type { Epoch } from "./epoch.ts";
import type { Figures } from "./figures.ts";
import { createInHand } from "./in-hand.ts";
import { createPacer } from "./pacer.ts";
import { ALONE, compareUrgency, type DispatcherPlace, planPlacements, serverKey } from "./placement.ts";
import { type Release, releaseTasks } from "./release.ts";
import { createServerLane } from "./server-lane.ts";
import type { ServerTable } from "./server-table.ts";
import type { DispatcherStats } from "./stats.ts";
import { createWorkGroup } from "./work-group.ts";
import { type Assignment, createWorkItem, runsMeanwhile, type Target, type WorkItem } from "./work-item.ts";

/** The way of tasks under one epoch: planned, started on agents, committed to the dispatch table, or released. */
export interface Pipeline {
  /** How many tasks are on their way. */
  readonly size: number;
  /** Resolves once nothing is on its way. */
  idle(): Promise<void>;
  /** Takes on what is new of these; tells how many that were. */
  submit(tasks: readonly Task[]): number;
  /** Tells where this dispatcher is in the round, so that several that plan at once spread evenly. */
  setPlace(place: DispatcherPlace): void;
  /**
   * Works until the signal aborts, the epoch ends or `drain` is done.
   * @throws what went wrong inside, which is a defect: failures of calls are part of the work
   */
  run(signal: AbortSignal): Promise<void>;
  /** Starts nothing more, gives back what is not started, waits for the rest up to the deadline, and ends `run`. */
  drain(graceMs: number): Promise<void>;
}

export interface PipelineOptions {
  readonly dispatcherId: string;
  readonly epoch: Epoch;
  readonly client: Client<typeof DispatcherService>;
  readonly table: ServerTable;
  readonly figures: Figures;
  /** How a server answers this dispatcher's own probes. */
  readonly reach: (serverId: string) => Reach;
  /** Starts per second; infinite for no limit. */
  readonly startRate: number;
  readonly stats: DispatcherStats;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A share arrives in several messages within milliseconds; waiting for them plans it as a whole. */
const GATHER_MS = 10;

/** Planning holds up the process, for some milliseconds at this size; the rest of a larger share follows. */
const MAX_PLANNED_AT_ONCE = 1_000;

/** A task is tried on this many servers before it is given back: the first choice and two others. */
const MAX_SERVERS_TRIED = 3;

export function createPipeline(options: PipelineOptions): Pipeline {
  const { epoch, table, figures, stats, clock, logger } = options;
  const inHand = createInHand(clock);
  const cutoff = new AbortController();
  const draining = new AbortController();
  /** Under this signal all calls are made. */
  const work = AbortSignal.any([epoch.signal, cutoff.signal]);
  const starting = AbortSignal.any([work, draining.signal]);
  const outstanding = new Set<Assignment>();
  const queue: WorkItem[] = [];
  let wake = Promise.withResolvers<void>();
  let place: DispatcherPlace = ALONE;
  let failure: { cause: unknown } | undefined;

  const group = createWorkGroup((error) => {
    if (work.aborted) return;
    failure ??= { cause: error };
    cutoff.abort(error);
  });
  work.addEventListener("abort", () => wake.resolve(), { once: true });

  const lane = createServerLane({
    ...options,
    agents: createAgentCalls(epoch, table, logger),
    pacer: createPacer(options.startRate, clock),
    group,
    work,
    starting,
    outcome: {
      committed({ item }) {
        stats.committed++;
        inHand.finish(item.task);
      },
      lost({ item }) {
        inHand.finish(item.task);
      },
      retry({ item }) {
        enqueue([item]);
      },
      figuresAreWrong: () => figures.markWrong(),
      done: (assignment) => outstanding.delete(assignment),
    },
  });

  function enqueue(items: readonly WorkItem[]) {
    if (items.length === 0) return;
    queue.push(...items);
    wake.resolve();
  }

  function release(releases: readonly Release[]) {
    if (releases.length === 0) return;
    group.start(() =>
      releaseTasks(options, releases, work, ({ task }, gone) => {
        if (!gone) return inHand.forget(task);
        stats.released++;
        inHand.finish(task);
      }),
    );
  }

  /** Whether the last tasks planned found no room. */
  let wantsRoom = false;

  function plan(items: readonly WorkItem[]) {
    const worn = items.filter(({ triedServers }) => triedServers.size >= MAX_SERVERS_TRIED);
    const fresh = items.filter(({ triedServers }) => triedServers.size < MAX_SERVERS_TRIED);
    const { placed, unplaced } = planPlacements(fresh, table.placeable(options.reach), place);
    release([
      ...worn.map((item) => releaseOf(item, `${MAX_SERVERS_TRIED} servers were tried`)),
      ...unplaced.map(({ task, reason }) => releaseOf(task, reason)),
    ]);
    const lanes = new Map<string, { target: Target; assignments: Assignment[] }>();
    for (const { task: item, serverId, incarnation, score, candidates } of placed) {
      const target = { serverId, incarnation };
      const hold = table.hold(serverId, incarnation, item.weight);
      const assignment = { item, hold, ...target };
      item.triedServers.add(serverKey(target));
      outstanding.add(assignment);
      const known = lanes.get(serverId);
      if (known) known.assignments.push(assignment);
      else lanes.set(serverId, { target, assignments: [assignment] });
      logger.debug({ conferenceId: item.task.conferenceId, serverId, score, candidates }, "placed");
    }
    for (const { target, assignments } of lanes.values()) group.start(() => lane(target, assignments));
    const fields = { conferences: unplaced.length, detail: unplaced[0]?.reason };
    // Said once; how many are released goes on in the figures that are logged now and then.
    if (unplaced.length > 0) logger[wantsRoom ? "debug" : "warn"](fields, "no server for conferences");
    else if (placed.length > 0 && wantsRoom) logger.info("servers have room again");
    wantsRoom = unplaced.length > 0 || (wantsRoom && placed.length === 0);
  }

  async function planLoop() {
    const backoff = createBackoff();
    while (!work.aborted) {
      await wake.promise;
      await sleep(clock, GATHER_MS, starting).catch(() => {});
      if (work.aborted) return;
      wake = Promise.withResolvers();
      if (draining.signal.aborted) {
        release(queue.splice(0).map((item) => releaseOf(item, "the dispatcher stops")));
        continue;
      }
      // Not read again in the middle of a burst unless they are wrong: they would show a part of what others place now.
      await figures.refresh(Number.POSITIVE_INFINITY, work);
      if (table.loaded) {
        queue.sort(compareUrgency);
        plan(queue.splice(0, MAX_PLANNED_AT_ONCE));
        if (queue.length > 0) wake.resolve();
        backoff.reset();
      } else {
        await sleep(clock, backoff.nextMs(), starting).catch(() => {});
        wake.resolve();
      }
    }
  }

  function releaseOf(item: WorkItem, why: string): Release {
    if (draining.signal.aborted) {
      return { task: item.task, cause: TaskRelease_Cause.SHUTTING_DOWN, message: why };
    }
    // A conference that runs on where it is has not failed because another server could not start it.
    const failed = item.failures.length > 0 && !runsMeanwhile(item.task);
    const cause = failed ? TaskRelease_Cause.START_FAILED : TaskRelease_Cause.NO_CAPACITY;
    return { task: item.task, cause, message: [...item.failures, why].join("; ") };
  }

  return {
    get size() {
      return inHand.size;
    },
    idle: () => inHand.empty(),
    submit(tasks) {
      if (draining.signal.aborted) return 0;
      const fresh = inHand.admit(tasks);
      stats.claimed += fresh.length;
      enqueue(fresh.map((task) => createWorkItem(task, clock.wallMs())));
      return fresh.length;
    },
    setPlace(next) {
      place = next;
    },
    async run(signal) {
      const stop = () => cutoff.abort(signal.reason);
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop, { once: true });
      try {
        await planLoop();
      } catch (err) {
        if (!work.aborted) failure ??= { cause: err };
      } finally {
        signal.removeEventListener("abort", stop);
        cutoff.abort();
        await group.settled();
        // Nobody will learn what became of these; the control plane's own figures tell.
        for (const { hold } of outstanding) hold.release();
      }
      if (failure) throw failure.cause;
    },
    async drain(graceMs) {
      draining.abort();
      wake.resolve();
      const over = new AbortController();
      await Promise.race([
        inHand.empty(),
        sleep(clock, graceMs, AbortSignal.any([work, over.signal])).catch(() => {}),
      ]);
      over.abort();
      if (inHand.size > 0) logger.warn({ conferences: inHand.size }, "stopping with work under way");
      cutoff.abort();
    },
  };
}
