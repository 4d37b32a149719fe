import { setTimeout as delay } from "node:timers/promises";
import { paginate } from "../../client/paginate.ts";
import type { ConvokeClient } from "../../client/transport/client.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { seededRandom } from "../support/seeded-random.ts";
import { runBookingClient, toSeen } from "./booking-client.ts";
import { checkHistory, type Verdict } from "./checker.ts";
import { type ClientContext, createPool } from "./client-context.ts";
import { createDispatcherClient, SERVER } from "./dispatcher-client.ts";
import { createFaultInjector } from "./fault-injector.ts";
import { planFaults } from "./fault-plan.ts";
import type { History, SeenConference } from "./history.ts";
import { createWatcher, listDispatches, runReader } from "./reading-clients.ts";
import { createRecorder, type Recorder, timed } from "./recorder.ts";
import { startWorld } from "./world.ts";

export interface StormOptions {
  readonly seed: number;
  readonly lengthMs: number;
  /** Told every few seconds. */
  onProgress?(figures: Figures): void;
}

export interface Figures {
  readonly seconds: number;
  readonly faults: number;
  readonly faultsByKind: Readonly<Record<string, number>>;
  readonly ok: number;
  readonly failed: number;
  readonly unknown: number;
}

export interface StormResult {
  readonly figures: Figures;
  /** Why calls failed or stayed unknown, by call. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly verdict: Verdict;
  readonly history: History;
  /** Replicas that ended by themselves, which the design forbids. */
  readonly surprises: readonly string[];
}

const BOOKING_CLIENTS = 6;
const DISPATCHERS = 4;
const READERS = 3;
const WATCHERS = 2;
const PROGRESS_MS = 5_000;

/** After the faults everything has to come to rest by itself. */
const QUIET_TIMEOUT_MS = 90_000;
const QUIET_POLL_MS = 250;

/** More than any run leaves rooms on the one server for. */
const CAPACITY = 1_000_000;

/**
 * Real processes under seeded faults and seeded clients; checks what the clients have seen.
 * @throws {Error} when the deployment does not start, or does not come to rest after the faults
 */
export async function runStorm({ seed, lengthMs, onProgress }: StormOptions): Promise<StormResult> {
  await using world = await startWorld(seed);
  const recorder = createRecorder();
  const pool = createPool();
  const random = seededRandom(seed);
  const booking = new AbortController();
  const storm = new AbortController();
  const all = new AbortController();
  const contextOf = (name: string, replica: number | undefined, signal: AbortSignal): ClientContext => ({
    ...{ name, recorder, signal },
    once: replica !== undefined,
    api: world.connect(replica),
    random: seededRandom(Math.floor(random() * 2 ** 32)),
  });
  /** Every other client knows one replica, the others all of them. */
  const replicaOf = (index: number) => (index % 2 === 0 ? (index / 2) % world.replicas.length : undefined);
  const several = <T>(count: number, make: (index: number) => T) =>
    Array.from({ length: count }, (_, n) => make(n));

  const admin = world.connect();
  await admin.servers.registerServer({
    server: { ...SERVER, agentAddress: "127.0.0.1:9", capacity: CAPACITY, instanceId: "life" },
  });
  const dispatchers = several(DISPATCHERS, (n) =>
    createDispatcherClient(contextOf(`dispatcher-${n}`, n === 0 ? 0 : undefined, all.signal), `d${n}`),
  );
  const watchers = several(WATCHERS, (n) =>
    createWatcher(contextOf(`watcher-${n}`, n === 0 ? 0 : undefined, all.signal)),
  );
  const bookings = several(BOOKING_CLIENTS, (n) =>
    runBookingClient(contextOf(`booking-${n}`, replicaOf(n), booking.signal), pool),
  );
  const others = [
    ...dispatchers.map((dispatcher) => dispatcher.run()),
    ...watchers.map((watcher) => watcher.run()),
    ...several(READERS, (n) => runReader(contextOf(`reader-${n}`, replicaOf(n), booking.signal), pool)),
  ];
  const injector = createFaultInjector(world, dispatchers);
  const beganMs = performance.now();
  const figures = (): Figures => {
    const faultsByKind = Object.fromEntries([...injector.counts].sort());
    const faults = Object.values(faultsByKind).reduce((sum, count) => sum + count, 0);
    return { seconds: (performance.now() - beganMs) / 1_000, faults, faultsByKind, ...recorder.counts };
  };
  const progress = setInterval(() => onProgress?.(figures()), PROGRESS_MS);
  const clients = Promise.all([...bookings, ...others]);
  clients.catch(() => storm.abort());
  try {
    const faulting = injector.run(planFaults(seed, lengthMs), storm.signal);
    const full = setInterval(() => recorder.full && storm.abort(), 1_000);
    await delay(lengthMs, undefined, { signal: storm.signal }).catch(() => {});
    clearInterval(full);
    storm.abort();
    await faulting;
    booking.abort();
    await Promise.all(bookings);
    await untilPlaced(admin);
    await readFinal(world.connect(), recorder, watchers, contextOf("final", undefined, all.signal));
  } finally {
    clearInterval(progress);
    for (const controller of [storm, booking, all]) controller.abort();
    await clients;
  }
  return {
    figures: figures(),
    reasons: Object.fromEntries([...recorder.reasons].sort()),
    verdict: checkHistory(recorder.history),
    history: recorder.history,
    surprises: world.replicas.flatMap(({ process }) => process.surprises),
  };
}

/** Until nothing waits to be placed: dispatchers go on, and nobody creates. */
async function untilPlaced(api: ConvokeClient): Promise<void> {
  const deadlineMs = performance.now() + QUIET_TIMEOUT_MS;
  const states = [Conference_State.SCHEDULED, Conference_State.CLAIMED];
  for (;;) {
    const left = await api.conferences.listConferences({ states, pageSize: 1_000 }).then(
      ({ conferences }) => conferences.map(({ conferenceId }) => conferenceId),
      () => undefined,
    );
    if (left?.length === 0) return;
    // What is still not placed then is a finding of the check, as long as it can be read.
    if (performance.now() > deadlineMs && left) return;
    if (performance.now() > deadlineMs + QUIET_TIMEOUT_MS)
      throw new Error("the control plane did not come back");
    await delay(QUIET_POLL_MS);
  }
}

/** Reads everything at a revision after all calls, and waits until the watches have told as much. */
async function readFinal(
  api: ConvokeClient,
  recorder: Recorder,
  watchers: readonly { readonly told: number }[],
  context: ClientContext,
): Promise<void> {
  // A write makes sure of that: what the client reads next is not older, and all others were answered before.
  const conferenceId = "last";
  const hourMs = 3_600_000;
  const at = (ms: number) => ({ seconds: BigInt(Math.floor((Date.now() + ms) / 1_000)) });
  await api.conferences.createConference({
    conference: { conferenceId, startTime: at(24 * hourMs), endTime: at(25 * hourMs) },
    requestId: conferenceId,
  });
  const result = await timed(true, async () => {
    const conferences: SeenConference[] = [];
    for await (const conference of paginate(
      (pageToken) => api.conferences.listConferences({ pageToken, pageSize: 1_000 }),
      (page) => page.conferences,
    )) {
      if (conference.conferenceId !== conferenceId) conferences.push(toSeen(conference));
    }
    return { conferences };
  });
  recorder.add({ client: "final", once: true, call: "final", args: null, ...result });
  const revision = await listDispatches({ ...context, api });
  const deadlineMs = performance.now() + QUIET_TIMEOUT_MS;
  while (watchers.some(({ told }) => told < (revision ?? 0))) {
    if (performance.now() > deadlineMs) throw new Error("a watch did not follow to the end");
    await delay(QUIET_POLL_MS);
  }
}
