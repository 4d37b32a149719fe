import { type Clock, sleep } from "../../../common/clock.ts";
import { timestampFromMs } from "../../../common/time.ts";
import type { DispatchEvent } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import type { CalendarInstance } from "../../import/instance.ts";
import type { ConvokeClient } from "../../transport/client.ts";
import { type WatchUpdate, watchDispatches } from "../../watch.ts";
import { createWhereabouts, type Whereabouts } from "../../whereabouts.ts";
import type { ControlPlanes } from "./control-planes.ts";
import { createLiveState, type LiveState, names } from "./live-state.ts";
import type { DemoProcess, ProcessGroup } from "./processes.ts";
import type { ProgressView } from "./progress.ts";

/** What a story plays on: a control plane that serves, and what was made of the calendar. */
export interface Stage {
  readonly clock: Clock;
  readonly view: ProgressView;
  readonly live: LiveState;
  readonly planes: ControlPlanes;
  readonly client: ConvokeClient;
  readonly instances: readonly CalendarInstance[];
  readonly whereabouts: Whereabouts;
  /** Called with each update of the dispatch table and the moment it arrived. */
  readonly listeners: Set<(update: WatchUpdate<DispatchEvent>, nowMs: number) => void>;
  /** Begins another phase. */
  enter(phase: string): void;
  /** Starts the agents of this many servers, so large each. */
  startAgents(count: number, capacity: number): DemoProcess[];
  /** @param startRate how many conferences each starts a second at most; undefined for no limit */
  startDispatchers(count: number, startRate?: number): DemoProcess[];
  /** Imports all instances. */
  importCalendar(signal: AbortSignal): Promise<void>;
  /** Resolves once the condition holds. */
  until(signal: AbortSignal, condition: () => boolean | Promise<boolean>): Promise<void>;
  /** Gives whether the condition held before this time was over. */
  within(timeMs: number, signal: AbortSignal, condition: () => boolean | Promise<boolean>): Promise<boolean>;
  /** Keeps the picture and the listeners up to date from the dispatch table's own watch, until the signal aborts. */
  followTable(signal: AbortSignal): Promise<void>;
}

export interface StageOptions {
  readonly clock: Clock;
  readonly view: ProgressView;
  readonly group: ProcessGroup;
  readonly planes: ControlPlanes;
  readonly client: ConvokeClient;
  readonly instances: readonly CalendarInstance[];
  readonly dispatchers: number;
  readonly servers: number;
  /** When the run began, on the monotonic clock. */
  readonly startedMs: number;
}

const IMPORT_BATCH = 500;
const POLL_MS = 100;
const SHOW_INTERVAL_MS = 200;

export function createStage(options: StageOptions): Stage {
  const { clock, view, group, planes, client, instances, startedMs } = options;
  const live = createLiveState(options, instances.length);
  const whereabouts = createWhereabouts();
  const listeners: Stage["listeners"] = new Set();
  const endpoint = planes.endpoints.join(",");
  const show = () => view.show(live.state((clock.monotonicMs() - startedMs) / 1000));

  async function within(
    timeMs: number,
    signal: AbortSignal,
    condition: () => boolean | Promise<boolean>,
  ): Promise<boolean> {
    const giveUpMs = clock.monotonicMs() + timeMs;
    for (;;) {
      if (await condition()) return true;
      if (clock.monotonicMs() >= giveUpMs) return false;
      await sleep(clock, POLL_MS, signal);
    }
  }

  return {
    clock,
    view,
    live,
    planes,
    client,
    instances,
    whereabouts,
    listeners,
    within,
    enter(phase) {
      live.phase = phase;
      show();
    },
    startAgents: (count, capacity) =>
      names("s", count).map((id) =>
        group.start(id, ["agent", "--id", id, "--capacity", String(capacity), "--endpoint", endpoint]),
      ),
    startDispatchers: (count, startRate) =>
      names("d", count).map((id) =>
        group.start(id, [
          ...["dispatcher", "--id", id, "--endpoint", endpoint, "--window", "1h"],
          ...(startRate === undefined ? [] : ["--start-rate", String(startRate)]),
        ]),
      ),
    async importCalendar(signal) {
      for (let from = 0; from < instances.length; from += IMPORT_BATCH) {
        const requests = instances.slice(from, from + IMPORT_BATCH).map(toRequest);
        await client.conferences.batchCreateConferences({ requests }, { signal });
      }
    },
    async until(signal, condition) {
      await within(Number.POSITIVE_INFINITY, signal, condition);
    },
    async followTable(signal) {
      const timer = setInterval(show, SHOW_INTERVAL_MS);
      try {
        for await (const update of watchDispatches(client.conferences, { signal })) {
          const nowMs = clock.monotonicMs();
          showUpdate(live, update);
          whereabouts.apply(update);
          for (const listener of listeners) listener(update, nowMs);
        }
      } catch (err) {
        if (!signal.aborted) throw err;
      } finally {
        clearInterval(timer);
      }
    },
  };
}

function showUpdate(live: LiveState, update: WatchUpdate<DispatchEvent>) {
  if (update.kind === "restart") return live.clear();
  for (const { type, dispatch } of update.events) {
    if (!dispatch) continue;
    if (type === EventType.PUT) live.put(dispatch.conferenceId, dispatch.dispatcherId, dispatch.serverId);
    else live.drop(dispatch.conferenceId);
  }
}

function toRequest(instance: CalendarInstance) {
  return {
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
  };
}
