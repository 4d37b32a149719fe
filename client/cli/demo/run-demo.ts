import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import type { Clock } from "../../../common/clock.ts";
import { runTasks } from "../../../common/run-tasks.ts";
import { createConvokeClient } from "../../transport/client.ts";
import { demoCalendar } from "./calendar.ts";
import { isEmbedded, startControlPlanes, storeOfRun } from "./control-planes.ts";
import { type DispatcherStoryResult, tellDispatcherStory } from "./dispatcher-story.ts";
import { createProcessGroup, type Program } from "./processes.ts";
import { createProgressView } from "./progress.ts";
import { type Blow, type ServerStoryResult, tellServerStory } from "./server-story.ts";
import { createStage } from "./stage.ts";

export interface DemoOptions {
  readonly conferences: number;
  readonly dispatchers: number;
  /** At least 2 when one is struck. */
  readonly servers: number;
  /** How many control-plane processes; more than one only over an etcd store. */
  readonly replicas: number;
  /** What is done to a conference server. Default: none is touched, and a dispatcher is killed. */
  readonly blow?: Blow;
  /** Where they keep everything, each run by itself. Default: in a directory of the run. */
  readonly store?: string;
  /** Deletes what a run has kept in a store that outlives it. */
  readonly eraseStore?: (location: string) => Promise<void>;
  /** Where the processes' logs are kept, with all details. Default: in a directory of the run, deleted when all is well. */
  readonly logs?: string;
  /** How to run `convoke`. */
  readonly program: Program;
  readonly clock: Clock;
  /** Where progress goes. */
  readonly stderr: Writable;
  readonly isTerminal: boolean;
}

/** The figures of either story, and of the run. */
export type DemoResult = (DispatcherStoryResult | ServerStoryResult) & RunFigures;

export interface RunFigures {
  /** How long all of it took. */
  readonly seconds: number;
  /** How many control-plane processes there were. */
  readonly replicas: number;
  readonly dispatchers: number;
  readonly servers: number;
}

/** A demo that is not done by then has failed; people do not wait longer. */
const DEADLINE_MS = 55_000;
/** The story of a server has more to place first, and on a busy machine that alone takes a while. */
const SERVER_STORY_DEADLINE_MS = 110_000;

/** Runs the whole story with real processes and tells what came of it. Ends all it started, also when it fails. */
export async function runDemo(options: DemoOptions, signal: AbortSignal): Promise<DemoResult> {
  const { clock, replicas, dispatchers, servers } = options;
  const startedMs = clock.monotonicMs();
  const directory = await mkdtemp(join(tmpdir(), "convoke-demo-"));
  const deadlineMs = options.blow ? SERVER_STORY_DEADLINE_MS : DEADLINE_MS;
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
  let succeeded = false;
  try {
    const result = await play(options, directory, startedMs, deadline);
    succeeded = true;
    const seconds = Math.round((clock.monotonicMs() - startedMs) / 100) / 10;
    return { ...result, replicas, dispatchers, servers, seconds };
  } catch (err) {
    if (deadline.aborted && !signal.aborted) {
      throw new Error(
        `the demo was not done within ${deadlineMs / 1000} s; the logs are in ${options.logs ?? directory}`,
        {
          cause: err,
        },
      );
    }
    throw err;
  } finally {
    if (succeeded || signal.aborted) await rm(directory, { recursive: true, force: true });
  }
}

async function play(options: DemoOptions, directory: string, startedMs: number, deadline: AbortSignal) {
  const { clock, blow, replicas } = options;
  const view = createProgressView(options.stderr, options.isTerminal);
  const store = storeOfRun(options.store, directory);
  await using _erasing = erasing(store, options);
  if (options.logs !== undefined) await mkdir(options.logs, { recursive: true });
  const details = options.logs === undefined ? [] : ["--log-level", "debug"];
  await using group = createProcessGroup(options.program, options.logs ?? directory, details);
  const calendar = await demoCalendar(options.conferences, clock.wallMs());
  // Conferences of equal weight, so that servers host as many each.
  const instances = blow ? calendar.map((instance) => ({ ...instance, weight: 1 })) : calendar;
  view.show({
    seconds: (clock.monotonicMs() - startedMs) / 1000,
    phase: replicas === 1 ? "starting the control plane" : `starting ${replicas} replicas`,
    total: instances.length,
    active: 0,
    dispatchers: [],
    servers: [],
  });
  const planes = await startControlPlanes(group, replicas, store, deadline);
  using client = createConvokeClient({ endpoint: planes.endpoints });
  const stage = createStage({ ...options, view, group, planes, client, instances, startedMs });
  const over = new AbortController();
  let result: DispatcherStoryResult | ServerStoryResult | undefined;
  await runTasks(
    AbortSignal.any([deadline, over.signal]),
    async (signal) => {
      result = await (blow
        ? tellServerStory(stage, { ...options, blow }, signal)
        : tellDispatcherStory(stage, options, signal));
      over.abort();
    },
    (signal) => stage.followTable(signal),
    (signal) => untilFailed(group.failed, signal),
  );
  deadline.throwIfAborted();
  if (!result) throw new Error("the demo ended without a result");
  return result;
}

/** Rejects when a process has ended by itself; resolves when the signal aborts first. */
async function untilFailed(failed: Promise<never>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => aborted.resolve(), { once: true });
  if (signal.aborted) aborted.resolve();
  await Promise.race([failed, aborted.promise]);
}

/** At the end, deletes what the run has kept in a store that is not its own. */
function erasing(store: string, { store: given, eraseStore }: DemoOptions): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      if (given === undefined) return;
      if (isEmbedded(store)) await rm(store.slice("embedded:".length), { recursive: true, force: true });
      else await eraseStore?.(store);
    },
  };
}
