import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { type Clock, sleep } from "../../../common/clock.ts";
import { timestampFromMs } from "../../../common/time.ts";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import type { CalendarInstance } from "../../import/instance.ts";
import { paginate } from "../../paginate.ts";
import { type ConvokeClient, createConvokeClient } from "../../transport/client.ts";
import { watchDispatches } from "../../watch.ts";
import { demoCalendar } from "./calendar.ts";
import {
  type ControlPlanes,
  isEmbedded,
  type Replica,
  startControlPlanes,
  storeOfRun,
} from "./control-planes.ts";
import { type Conversation, startConversation } from "./conversation.ts";
import { type Figures, figuresOf, readBack } from "./figures.ts";
import { createLiveState, type LiveState, names } from "./live-state.ts";
import { createProcessGroup, type DemoProcess, type ProcessGroup, type Program } from "./processes.ts";
import { createProgressView, type ProgressView } from "./progress.ts";

export interface DemoOptions {
  readonly conferences: number;
  readonly dispatchers: number;
  readonly servers: number;
  /** How many control-plane processes; more than one only over an etcd store. */
  readonly replicas: number;
  /** Where they keep everything, each run by itself. Default: in a directory of the run. */
  readonly store?: string;
  /** Deletes what a run has kept in a store that outlives it. */
  readonly eraseStore?: (location: string) => Promise<void>;
  /** How to run `convoke`. */
  readonly program: Program;
  readonly clock: Clock;
  /** Where progress goes. */
  readonly stderr: Writable;
  readonly isTerminal: boolean;
}

export interface DemoResult extends Figures {
  /** How long all of it took. */
  readonly seconds: number;
  /** Whether two participants heard each other before and after the kill, and were never cut. */
  readonly participants_heard_each_other: boolean;
  /** How many control-plane processes there were. */
  readonly replicas: number;
  /** Whether one of them was killed in the middle; the figures were then read through the others. */
  readonly replica_killed: boolean;
}

/** A demo that is not done by then has failed; people do not wait longer. */
const DEADLINE_MS = 55_000;
/** Conferences are placed in about this time, so that there is something to see and a middle to kill in. */
const PLACING_MS = 8_000;
/** A replica dies when this part of the conferences is active, if there are several. */
const KILL_REPLICA_AT = 0.2;
/** The victim among the dispatchers dies when this part of the conferences is active. */
const KILL_AT = 0.4;
/** Servers have half again as many units as all conferences need. */
const SPARE = 1.5;
const HEARING_TIMEOUT_MS = 5_000;
/** How long agents have to stop what a dead dispatcher had started, before it counts as a duplicate. */
const RECONCILE_MS = 10_000;

/** Runs the whole story with real processes and tells what came of it. Ends all it started, also when it fails. */
export async function runDemo(options: DemoOptions, signal: AbortSignal): Promise<DemoResult> {
  const { clock } = options;
  const startedMs = clock.monotonicMs();
  const view = createProgressView(options.stderr, options.isTerminal);
  const directory = await mkdtemp(join(tmpdir(), "convoke-demo-"));
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]);
  const store = storeOfRun(options.store, directory);
  let succeeded = false;
  try {
    await using _erasing = erasing(store, options);
    await using group = createProcessGroup(options.program, directory);
    const story = tellStory(options, group, store, view, startedMs, deadline);
    const result = await Promise.race([story, group.failed]);
    succeeded = true;
    return { ...result, seconds: Math.round((clock.monotonicMs() - startedMs) / 100) / 10 };
  } catch (err) {
    if (deadline.aborted && !signal.aborted) {
      throw new Error(`the demo was not done within ${DEADLINE_MS / 1000} s; the logs are in ${directory}`, {
        cause: err,
      });
    }
    throw err;
  } finally {
    if (succeeded || signal.aborted) await rm(directory, { recursive: true, force: true });
  }
}

async function tellStory(
  options: DemoOptions,
  group: ProcessGroup,
  store: string,
  view: ProgressView,
  startedMs: number,
  signal: AbortSignal,
): Promise<Omit<DemoResult, "seconds">> {
  const { clock } = options;
  const instances = await demoCalendar(options.conferences, clock.wallMs());
  const live = createLiveState(options, instances.length);
  const show = () => view.show(live.state((clock.monotonicMs() - startedMs) / 1000));

  live.phase =
    options.replicas === 1 ? "starting the control plane" : `starting ${options.replicas} replicas`;
  show();
  const planes = await startControlPlanes(group, options.replicas, store, signal);
  const endpoint = planes.endpoints.join(",");
  using client = createConvokeClient({ endpoint });

  live.phase = `starting ${options.servers} agents and ${options.dispatchers} dispatchers`;
  show();
  startAgents(group, options, instances, endpoint);
  const dispatchers = startDispatchers(group, options, instances.length, endpoint);
  await until(clock, signal, async () => {
    const { servers } = await client.servers.listServers({ pageSize: 1000 }, { signal });
    const registered = await client.dispatchers.listDispatchers({ pageSize: 1000 }, { signal });
    return servers.length === options.servers && registered.dispatchers.length === options.dispatchers;
  });

  const following = new AbortController();
  const followed = followTable(client, live, show, AbortSignal.any([signal, following.signal]));
  try {
    live.phase = "importing the calendar";
    show();
    await importInstances(client, instances, signal);

    live.phase = "sharing out and placing";
    await until(clock, signal, async () => live.active > 0);
    using conversation = await converse(client, signal);
    const deadReplica = await killReplica(planes, live, clock, view, signal);
    const victim = await killInTheMiddle(client, dispatchers, live, clock, view, signal);
    live.phase = victim ? "going on without it" : live.phase;
    await until(clock, signal, async () => live.active >= instances.length);
    await conversation.exchange(HEARING_TIMEOUT_MS);

    live.phase = "reading everything back";
    show();
    const ids = instances.map(({ conferenceId }) => conferenceId);
    using survivors = createConvokeClient({
      endpoint: planes.endpoints.filter((address) => address !== deadReplica?.endpoint),
    });
    const figures = await settledFigures(survivors, ids, victim?.name, clock, signal);
    return {
      ...figures,
      participants_heard_each_other: !conversation.interrupted,
      replicas: options.replicas,
      replica_killed: deadReplica !== undefined,
    };
  } finally {
    following.abort();
    await followed;
  }
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

function startAgents(
  group: ProcessGroup,
  options: DemoOptions,
  instances: readonly CalendarInstance[],
  endpoint: string,
) {
  const units = instances.reduce((sum, { weight }) => sum + weight, 0);
  const largest = Math.max(...instances.map(({ weight }) => weight));
  const capacity = Math.max(largest, Math.ceil((units * SPARE) / options.servers));
  for (const id of names("s", options.servers)) {
    group.start(id, ["agent", "--id", id, "--capacity", String(capacity), "--endpoint", endpoint]);
  }
}

function startDispatchers(group: ProcessGroup, options: DemoOptions, conferences: number, endpoint: string) {
  const startsPerSecond = Math.ceil((conferences / options.dispatchers / PLACING_MS) * 1000);
  return names("d", options.dispatchers).map((id) =>
    group.start(id, [
      ...["dispatcher", "--id", id, "--endpoint", endpoint, "--window", "1h"],
      ...["--start-rate", String(startsPerSecond)],
    ]),
  );
}

async function importInstances(
  client: ConvokeClient,
  instances: readonly CalendarInstance[],
  signal: AbortSignal,
) {
  const batchSize = 500;
  for (let from = 0; from < instances.length; from += batchSize) {
    const requests = instances.slice(from, from + batchSize).map((instance) => ({
      // So that a replica can tell a repeated call from another's.
      requestId: instance.conferenceId,
      conference: {
        conferenceId: instance.conferenceId,
        displayName: instance.displayName,
        seriesId: instance.seriesId,
        startTime: timestampFromMs(instance.startMs),
        endTime: timestampFromMs(instance.endMs),
        expectedParticipants: instance.expectedParticipants,
        weight: instance.weight,
      },
    }));
    await client.conferences.batchCreateConferences({ requests }, { signal });
  }
}

/** Looks a conference up as a booking system would, and lets two participants talk in it. */
async function converse(client: ConvokeClient, signal: AbortSignal): Promise<Conversation> {
  const [first] = (await client.conferences.listDispatches({ pageSize: 1 }, { signal })).dispatches;
  if (!first) throw new Error("no conference is active");
  const { dispatch } = await client.conferences.getDispatch({ conferenceId: first.conferenceId }, { signal });
  const conversation = await startConversation(dispatch?.address ?? "", HEARING_TIMEOUT_MS);
  await conversation.exchange(HEARING_TIMEOUT_MS);
  return conversation;
}

/** Kills a replica while conferences are being placed. Undefined when there is only one. */
async function killReplica(
  { replicas }: ControlPlanes,
  live: LiveState,
  clock: Clock,
  view: ProgressView,
  signal: AbortSignal,
): Promise<Replica | undefined> {
  const victim = replicas.length > 1 ? replicas[1] : undefined;
  if (!victim) return undefined;
  await until(clock, signal, async () => live.active >= live.total * KILL_REPLICA_AT);
  await victim.process.kill();
  view.note(`        SIGKILL to replica ${victim.process.name} at ${victim.endpoint}`);
  return victim;
}

/** Kills a dispatcher while it holds conferences that it has not placed. Undefined when there is only one. */
async function killInTheMiddle(
  client: ConvokeClient,
  dispatchers: readonly DemoProcess[],
  live: LiveState,
  clock: Clock,
  view: ProgressView,
  signal: AbortSignal,
): Promise<DemoProcess | undefined> {
  const victim = dispatchers.length > 1 ? dispatchers[1] : undefined;
  if (!victim) return undefined;
  let held = 0;
  await until(clock, signal, async () => {
    if (live.active < live.total * KILL_AT) return false;
    const unplaced = await unplacedConferences(client, signal);
    // Everyone has taken its share by now, unless some are still unclaimed.
    held = unplaced.filter(({ claim }) => claim?.dispatcherId === victim.name).length;
    return unplaced.every(({ state }) => state === Conference_State.CLAIMED);
  });
  await victim.kill();
  live.dead.add(victim.name);
  view.note(
    `        SIGKILL to dispatcher ${victim.name}, which held ${held} conferences it had not placed yet`,
  );
  return victim;
}

async function unplacedConferences(client: ConvokeClient, signal: AbortSignal) {
  const states = [Conference_State.SCHEDULED, Conference_State.CLAIMED];
  const found = [];
  for await (const conference of paginate(
    (pageToken) => client.conferences.listConferences({ pageSize: 1000, pageToken, states }, { signal }),
    (page) => page.conferences,
  )) {
    found.push(conference);
  }
  return found;
}

/** What the dead dispatcher started and never committed is stopped by the agents; counted once that had its time. */
async function settledFigures(
  client: ConvokeClient,
  expected: readonly string[],
  dead: string | undefined,
  clock: Clock,
  signal: AbortSignal,
): Promise<Figures> {
  const giveUpMs = clock.monotonicMs() + RECONCILE_MS;
  for (;;) {
    const figures = figuresOf(await readBack(client, signal), expected, dead);
    const settled = figures.lost === 0 && figures.duplicate_dispatches === 0;
    if (settled || clock.monotonicMs() >= giveUpMs) return figures;
    await sleep(clock, 250, signal);
  }
}

/** Keeps the picture up to date from the dispatch table's own watch. */
async function followTable(client: ConvokeClient, live: LiveState, show: () => void, signal: AbortSignal) {
  const timer = setInterval(show, 200);
  try {
    for await (const update of watchDispatches(client.conferences, { signal })) {
      if (update.kind === "restart") {
        live.clear();
        continue;
      }
      for (const { type, dispatch } of update.events) {
        if (!dispatch) continue;
        if (type === EventType.PUT) live.put(dispatch.conferenceId, dispatch.dispatcherId, dispatch.serverId);
        else live.drop(dispatch.conferenceId);
      }
    }
  } catch (err) {
    if (!signal.aborted) throw err;
  } finally {
    clearInterval(timer);
  }
}

async function until(clock: Clock, signal: AbortSignal, condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(clock, 100, signal);
}
