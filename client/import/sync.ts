import { Code, ConnectError } from "@connectrpc/connect";
import { timestampFromMs } from "../../common/time.ts";
import { type Conference, Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { paginate } from "../paginate.ts";
import type { CalendarInstance } from "./instance.ts";
import { callWithRetry } from "./retry.ts";
import type { TimeRange } from "./series.ts";
import {
  addCounts,
  type ImportCounts,
  type ImportItem,
  type ImportOptions,
  NO_COUNTS,
  upsertConferences,
} from "./upsert.ts";

/** What calendars say about a range of time; see `Calendar`. */
export interface CalendarContent {
  readonly instances: readonly CalendarInstance[];
  readonly elsewhere: readonly CalendarInstance[];
  readonly seriesIds: ReadonlySet<string>;
}

/** The largest page that the control plane gives. */
const PAGE_SIZE = 1_000;

/** Cancellations have no batch. */
const MAX_CANCELLATIONS = 16;

/** The states in which a conference can still be called off. */
const STANDING = [
  Conference_State.SCHEDULED,
  Conference_State.CLAIMED,
  Conference_State.ACTIVE,
  Conference_State.FAILED,
];

/**
 * Makes the control plane's schedule what the calendars say about a range: schedules their instances, changes those that
 * exist, cancels those that are called off, and cancels those of the given series that start in the range and are in no
 * calendar any more. What was moved out of the range is moved, not cancelled. Doing it again changes nothing.
 *
 * @throws what a call throws when it cannot be made at all; what was done by then stays
 */
export async function syncCalendar(
  content: CalendarContent,
  range: TimeRange,
  options: ImportOptions,
): Promise<ImportCounts> {
  let counts = NO_COUNTS;
  const onProgress = (change: Partial<ImportCounts>) => {
    counts = addCounts(counts, change);
    options.onProgress?.(change);
  };
  const reporting = { ...options, onProgress };
  const live = content.instances.filter(({ cancelled }) => !cancelled);
  await upsertConferences(live.map(itemOf), reporting);

  const wanted = new Set(live.map(({ conferenceId }) => conferenceId));
  const elsewhere = new Map(content.elsewhere.map((instance) => [instance.conferenceId, instance]));
  const surplus = new Set<string>();
  const gone: CalendarInstance[] = [];
  for await (const { conferenceId, seriesId } of standing(content.seriesIds, range, options)) {
    if (!content.seriesIds.has(seriesId) || wanted.has(conferenceId)) continue;
    const instance = elsewhere.get(conferenceId);
    if (instance && !instance.cancelled) gone.push(instance);
    else surplus.add(conferenceId);
  }
  await upsertConferences(gone.map(itemOf), reporting);
  await cancelAll([...surplus], reporting);
  // One that was moved before it was called off may stand anywhere in time.
  const calledOff = content.instances
    .filter((instance) => instance.cancelled && !surplus.has(instance.conferenceId))
    .map(({ conferenceId }) => conferenceId);
  await cancelAll(await standingAmong(calledOff, options), reporting);
  return counts;
}

/** The conference of an instance. */
export function itemOf(instance: CalendarInstance): ImportItem {
  const { conferenceId, displayName, seriesId, expectedParticipants, weight, file, line } = instance;
  return {
    conference: {
      conferenceId,
      displayName,
      seriesId,
      expectedParticipants,
      weight,
      startTime: timestampFromMs(instance.startMs),
      endTime: timestampFromMs(instance.endMs),
    },
    file,
    line,
  };
}

/** The conferences in the range that can still be cancelled. One look at the range costs less than one for each series. */
async function* standing(
  seriesIds: ReadonlySet<string>,
  { fromMs, untilMs }: TimeRange,
  options: ImportOptions,
): AsyncGenerator<Conference, void, undefined> {
  if (seriesIds.size === 0) return;
  const [only] = seriesIds;
  const filter = {
    pageSize: PAGE_SIZE,
    states: STANDING,
    startTimeFrom: timestampFromMs(fromMs),
    startTimeUntil: timestampFromMs(untilMs),
    ...(seriesIds.size === 1 && only !== undefined ? { seriesId: only } : {}),
  };
  yield* paginate(
    (pageToken) =>
      callWithRetry(options, (call) => options.client.listConferences({ ...filter, pageToken }, call)),
    (page) => page.conferences,
  );
}

async function standingAmong(conferenceIds: readonly string[], options: ImportOptions): Promise<string[]> {
  const found: string[] = [];
  await forEachBounded(conferenceIds, async (conferenceId) => {
    const conference = await callWithRetry(options, (call) =>
      options.client.getConference({ conferenceId }, call),
    ).then(
      (response) => response.conference,
      (err: unknown) => {
        if (err instanceof ConnectError && err.code === Code.NotFound) return undefined;
        throw err;
      },
    );
    if (conference && STANDING.includes(conference.state)) found.push(conferenceId);
  });
  return found;
}

async function cancelAll(conferenceIds: readonly string[], options: ImportOptions): Promise<void> {
  await forEachBounded(conferenceIds, async (conferenceId) => {
    try {
      await callWithRetry(options, (call) => options.client.cancelConference({ conferenceId }, call));
      options.onProgress?.({ cancelled: 1 });
    } catch (err) {
      // It has ended, or was removed, since it was looked at: it does not take place in either case.
      const isOver =
        err instanceof ConnectError && (err.code === Code.FailedPrecondition || err.code === Code.NotFound);
      if (!isOver) throw err;
    }
  });
}

/** Some at a time; the first error ends it once the calls under way are done. */
async function forEachBounded<T>(items: readonly T[], action: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  let failure: { readonly cause: unknown } | undefined;
  const worker = async () => {
    for (const item of rest) {
      if (failure) return;
      try {
        await action(item);
      } catch (err) {
        failure ??= { cause: err };
      }
    }
  };
  await Promise.all(Array.from({ length: MAX_CANCELLATIONS }, worker));
  if (failure) throw failure.cause;
}
