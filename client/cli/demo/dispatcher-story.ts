import { sleep } from "../../../common/clock.ts";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { paginate } from "../../paginate.ts";
import { type ConvokeClient, createConvokeClient } from "../../transport/client.ts";
import type { Replica } from "./control-planes.ts";
import { type Conversation, startConversation } from "./conversation.ts";
import { type Figures, figuresOf, readBack } from "./figures.ts";
import type { DemoProcess } from "./processes.ts";
import type { Stage } from "./stage.ts";

/** What came of a run in which a dispatcher was killed. */
export interface DispatcherStoryResult extends Figures {
  /** Whether two participants heard each other before and after the kill, and were never cut. */
  readonly participants_heard_each_other: boolean;
  /** Whether one replica was killed in the middle; the figures were then read through the others. */
  readonly replica_killed: boolean;
}

/** Conferences are placed in about this time, so that there is something to see and a middle to kill in. */
const PLACING_MS = 8_000;
/** A replica dies when this part of the conferences is active, if there are several. */
const KILL_REPLICA_AT = 0.2;
/** The victim among the dispatchers dies when this part of the conferences is active. */
const KILL_AT = 0.4;
/** Servers have half again as many units as all conferences need. */
const SPARE = 1.5;
/** How long a participant may have to wait for what another says. */
export const HEARING_TIMEOUT_MS = 5_000;
/** How long agents have to stop what a dead dispatcher had started, before it counts as a duplicate. */
const RECONCILE_MS = 10_000;

/** Kills a dispatcher, and a replica when there are several, while conferences are being placed. */
export async function tellDispatcherStory(
  stage: Stage,
  counts: { readonly dispatchers: number; readonly servers: number },
  signal: AbortSignal,
): Promise<DispatcherStoryResult> {
  const { client, instances, live, planes } = stage;
  stage.enter(`starting ${counts.servers} agents and ${counts.dispatchers} dispatchers`);
  const units = instances.reduce((sum, { weight }) => sum + weight, 0);
  const largest = Math.max(...instances.map(({ weight }) => weight));
  stage.startAgents(counts.servers, Math.max(largest, Math.ceil((units * SPARE) / counts.servers)));
  const rate = Math.ceil((instances.length / counts.dispatchers / PLACING_MS) * 1000);
  const dispatchers = stage.startDispatchers(counts.dispatchers, rate);
  await stage.until(signal, () => isComplete(client, counts, signal));

  stage.enter("importing the calendar");
  await stage.importCalendar(signal);

  stage.enter("sharing out and placing");
  await stage.until(signal, () => live.active > 0);
  using conversation = await converse(client, signal);
  const deadReplica = await killReplica(stage, signal);
  const victim = await killInTheMiddle(stage, dispatchers, signal);
  if (victim) stage.enter("going on without it");
  await stage.until(signal, () => live.active >= instances.length);
  await conversation.exchange(HEARING_TIMEOUT_MS);

  stage.enter("reading everything back");
  using survivors = createConvokeClient({
    endpoint: planes.endpoints.filter((address) => address !== deadReplica?.endpoint),
  });
  const ids = instances.map(({ conferenceId }) => conferenceId);
  const figures = await settledFigures(stage, survivors, ids, victim?.name, signal);
  return {
    ...figures,
    participants_heard_each_other: !conversation.interrupted,
    replica_killed: deadReplica !== undefined,
  };
}

/** Whether all servers and dispatchers have registered. */
export async function isComplete(
  client: ConvokeClient,
  counts: { readonly dispatchers: number; readonly servers: number },
  signal: AbortSignal,
): Promise<boolean> {
  const { servers } = await client.servers.listServers({ pageSize: 1000 }, { signal });
  const { dispatchers } = await client.dispatchers.listDispatchers({ pageSize: 1000 }, { signal });
  return servers.length === counts.servers && dispatchers.length === counts.dispatchers;
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
async function killReplica(stage: Stage, signal: AbortSignal): Promise<Replica | undefined> {
  const { live, view, planes } = stage;
  const victim = planes.replicas.length > 1 ? planes.replicas[1] : undefined;
  if (!victim) return undefined;
  await stage.until(signal, () => live.active >= live.total * KILL_REPLICA_AT);
  await victim.process.kill();
  view.note(`        SIGKILL to replica ${victim.process.name} at ${victim.endpoint}`);
  return victim;
}

/** Kills a dispatcher while it holds conferences that it has not placed. Undefined when there is only one. */
async function killInTheMiddle(
  stage: Stage,
  dispatchers: readonly DemoProcess[],
  signal: AbortSignal,
): Promise<DemoProcess | undefined> {
  const { client, live, view } = stage;
  const victim = dispatchers.length > 1 ? dispatchers[1] : undefined;
  if (!victim) return undefined;
  let held = 0;
  await stage.until(signal, async () => {
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
  { clock }: Stage,
  client: ConvokeClient,
  expected: readonly string[],
  dead: string | undefined,
  signal: AbortSignal,
): Promise<Figures> {
  const giveUpMs = clock.monotonicMs() + RECONCILE_MS;
  for (;;) {
    const figures = figuresOf(await readBack(client, signal), { expected, dead });
    const settled = figures.lost === 0 && figures.duplicate_dispatches === 0;
    if (settled || clock.monotonicMs() >= giveUpMs) return figures;
    await sleep(clock, 250, signal);
  }
}
