import { createConvokeClient } from "../../transport/client.ts";
import { startConversation } from "./conversation.ts";
import { HEARING_TIMEOUT_MS, isComplete } from "./dispatcher-story.ts";
import { type Figures, figuresOf, type Readback, readBack, readHosted } from "./figures.ts";
import { followMoves } from "./follow-moves.ts";
import { createMoves, percentile } from "./moves.ts";
import type { DemoProcess } from "./processes.ts";
import { fillRooms, type Rooms } from "./rooms.ts";
import type { Stage } from "./stage.ts";

/** What is done to a conference server: its process is killed, or stands still as a machine that hangs. */
export type Blow = "kill" | "freeze";

/** What came of a run in which a conference server was lost. Times are in milliseconds, from the signal on. */
export interface ServerStoryResult extends Figures {
  readonly blow: Blow;
  readonly killed_server: string;
  /** How many conferences it hosted then. */
  readonly conferences_on_killed_server: number;
  /** When a client was told that the server is DOWN; null when it was not. */
  readonly verdict_ms: number | null;
  /**
   * When half, 99 % and all of its conferences had a new row that a client could read, on another server and under a
   * higher epoch; null when none had.
   */
  readonly failover_p50_ms: number | null;
  readonly failover_p99_ms: number | null;
  readonly failover_max_ms: number | null;
  /** How many of the times were checked with GetDispatch by a client that does not watch. */
  readonly reads_checked: number;
  /** How many conferences are not as they were: these and `others_moved`. */
  readonly moved: number;
  readonly moved_from_killed_server: number;
  /** Conferences of the other servers that did not stay as they were. */
  readonly others_moved: number;
  /** How many have no valid row in the end. */
  readonly unplaced: number;
  /** How many participants were in rooms of the server. */
  readonly participants: number;
  /** How many of them were told of the move, joined the new room by themselves and heard others there. */
  readonly participants_followed: number;
  /** The longest that one of them heard nothing. */
  readonly longest_silence_ms: number;
  /** Whether participants on another server heard each other before and after, and were never cut. */
  readonly participants_heard_each_other: boolean;
  /** How many conferences a frozen server hosts in the end, after it was let go on; null when it was killed. */
  readonly resumed_server_hosts: number | null;
  /** How many connections to its rooms participants had kept, and how many of them the resumed server has cut. */
  readonly old_connections: number;
  readonly old_connections_cut: number;
  /** When the last was cut, from the moment on in which the server went on; null when none was. */
  readonly old_connections_cut_ms: number | null;
}

export interface ServerStoryOptions {
  readonly blow: Blow;
  readonly dispatchers: number;
  /** At least 2. */
  readonly servers: number;
}

/** The servers that are left have a tenth more units than all conferences need. */
const SPARE = 1.1;
const ROOMS = 10;
const PARTICIPANTS_EACH = 2;
/** Participants talk for this long before, so that their silence has something to stand out from. */
const TALK_MS = 2_000;
const FOLLOW_TIMEOUT_MS = 5_000;
/** How long agents have to stop what they may no longer host. */
const RECONCILE_TIMEOUT_MS = 15_000;

const WORDS = {
  kill: { signal: "SIGKILL", struck: "killed" },
  freeze: { signal: "SIGSTOP", struck: "frozen" },
} as const;

/** Places everything, kills or freezes a conference server, and follows what becomes of its conferences. */
export async function tellServerStory(
  stage: Stage,
  options: ServerStoryOptions,
  signal: AbortSignal,
): Promise<ServerStoryResult> {
  const { clock, client, instances, live, planes, view, whereabouts } = stage;
  const { blow } = options;
  const agents = await placeAll(stage, options, signal);
  const start = await readBack(client, signal);
  const before = start.dispatches;
  const serverId = fullest(before.map((row) => row.serverId));
  const onVictim = before.filter((row) => row.serverId === serverId);
  const elsewhere = before.find((row) => row.serverId !== serverId);
  const victim = agents.find(({ name }) => name === serverId);
  if (!victim || !elsewhere) throw new Error("one server hosts everything; start more conferences");

  stage.enter("participants talk");
  using conversation = await startConversation(elsewhere.address, HEARING_TIMEOUT_MS);
  await conversation.exchange(HEARING_TIMEOUT_MS);
  using rooms = fillRooms({
    rows: onVictim.slice(0, ROOMS),
    participantsEach: PARTICIPANTS_EACH,
    whereabouts,
    linger: blow === "freeze",
    clock,
  });
  const talkedAtMs = clock.monotonicMs() + TALK_MS;
  await stage.until(signal, () => clock.monotonicMs() >= talkedAtMs && rooms.lively);

  const moves = createMoves(before, serverId);
  const strike = async () => {
    const struck = blow === "kill" ? victim.kill() : victim.freeze();
    live.struck.set(serverId, WORDS[blow].struck);
    view.note(
      `        ${WORDS[blow].signal} to server ${serverId}, which hosted ${onVictim.length} conferences, ` +
        `with ${rooms.participants} participants in ${rooms.count} of them`,
    );
    stage.enter("its conferences move");
    await struck;
  };
  const { struckAtMs, downAtMs, readsChecked } = await followMoves(stage, moves, strike, signal);
  const since = (atMs: number | undefined) => rounded(atMs, struckAtMs);
  if (downAtMs !== undefined) view.note(`        ${serverId} was DOWN after ${since(downAtMs)} ms`);
  const timesMs = moves.readableAtMs;
  view.note(
    `        ${timesMs.length} of its ${moves.expected} conferences were elsewhere after ${since(timesMs.at(-1)) ?? "–"} ms`,
  );
  await stage.within(FOLLOW_TIMEOUT_MS, signal, () => rooms.followed >= rooms.participants);
  const resumed = blow === "freeze" ? await resume(stage, victim, rooms, signal) : undefined;
  await conversation.exchange(HEARING_TIMEOUT_MS);

  stage.enter("reading everything back");
  using reader = createConvokeClient({ endpoint: planes.endpoints });
  const expected = instances.map(({ conferenceId }) => conferenceId);
  const gone = blow === "kill" ? serverId : undefined;
  const { readback, figures } = await settled(stage, signal, async () => {
    const all = await readBack(reader, signal, gone);
    return { readback: all, figures: figuresOf(all, { expected, earlier: start.conferences }) };
  });
  moves.compare(readback.dispatches);
  const valid = new Set(readback.dispatches.map(({ conferenceId }) => conferenceId));
  const moved = moves.readableAtMs.length;
  return {
    ...figures,
    blow,
    killed_server: serverId,
    conferences_on_killed_server: onVictim.length,
    verdict_ms: since(downAtMs),
    failover_p50_ms: since(percentile(timesMs, 0.5)),
    failover_p99_ms: since(percentile(timesMs, 0.99)),
    failover_max_ms: since(timesMs.at(-1)),
    reads_checked: readsChecked,
    moved: moved + moves.othersMoved.size,
    moved_from_killed_server: moved,
    others_moved: moves.othersMoved.size,
    unplaced: expected.filter((id) => !valid.has(id)).length,
    participants: rooms.participants,
    participants_followed: rooms.followed,
    longest_silence_ms: Math.round(rooms.longestSilenceMs),
    participants_heard_each_other: !conversation.interrupted,
    resumed_server_hosts: resumed?.hosts ?? null,
    old_connections: rooms.oldConnections,
    old_connections_cut: rooms.cutAtMs.length,
    old_connections_cut_ms: resumed ? rounded(Math.max(...rooms.cutAtMs), resumed.atMs) : null,
  };
}

/** Starts everything, and resolves once all conferences are active. */
async function placeAll(
  stage: Stage,
  { dispatchers, servers }: ServerStoryOptions,
  signal: AbortSignal,
): Promise<readonly DemoProcess[]> {
  const { client, instances, live } = stage;
  stage.enter(`starting ${servers} agents and ${dispatchers} dispatchers`);
  const agents = stage.startAgents(servers, Math.ceil((instances.length * SPARE) / (servers - 1)));
  stage.startDispatchers(dispatchers);
  await stage.until(signal, () => isComplete(client, { dispatchers, servers }, signal));
  stage.enter("importing the calendar");
  await stage.importCalendar(signal);
  stage.enter("sharing out and placing");
  await stage.until(signal, () => live.active >= instances.length);
  return agents;
}

/** The server that is named most often. */
function fullest(serverIds: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const id of serverIds) counts.set(id, (counts.get(id) ?? 0) + 1);
  const [first] = [...counts].sort(([, a], [, b]) => b - a);
  return first?.[0] ?? "";
}

/** Lets a frozen server go on, and waits until it hosts nothing and has cut everybody, or the time for it is over. */
async function resume(stage: Stage, victim: DemoProcess, rooms: Rooms, signal: AbortSignal) {
  const { client, live, view, clock } = stage;
  const { server } = await client.servers.getServer({ serverId: victim.name }, { signal });
  if (!server) throw new Error(`the control plane does not know ${victim.name} any more`);
  const atMs = clock.monotonicMs();
  victim.resume();
  live.struck.set(victim.name, "goes on");
  view.note(`        SIGCONT to server ${victim.name}, where ${rooms.oldConnections} connections were kept`);
  stage.enter(`${victim.name} finds out what it may no longer host`);
  let hosts = Number.NaN;
  await stage.within(RECONCILE_TIMEOUT_MS, signal, async () => {
    hosts = (await readHosted(server, signal)).length;
    return hosts === 0 && rooms.cutAtMs.length >= rooms.oldConnections;
  });
  return { atMs, hosts };
}

/** Reads until nothing is lost or double, or the time for agents to see to that is over. */
async function settled(
  stage: Stage,
  signal: AbortSignal,
  read: () => Promise<{ readonly readback: Readback; readonly figures: Figures }>,
) {
  let last = await read();
  await stage.within(RECONCILE_TIMEOUT_MS, signal, async () => {
    if (last.figures.lost === 0 && last.figures.duplicate_dispatches === 0) return true;
    last = await read();
    return false;
  });
  return last;
}

function rounded(atMs: number | undefined, fromMs: number): number | null {
  return atMs === undefined || !Number.isFinite(atMs) ? null : Math.round(atMs - fromMs);
}
