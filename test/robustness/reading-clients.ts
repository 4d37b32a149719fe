import { watchDispatches } from "../../client/watch.ts";
import { DispatchEvent_Cause } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { getConference, getDispatch } from "./booking-client.ts";
import { CALL_TIMEOUT_MS, type ClientContext, type Pool, pause, pick } from "./client-context.ts";
import { timed } from "./recorder.ts";

const MEAN_PAUSE_MS = 60;

/** More rows than a run has at a time: a listing is one page, and so of one revision. */
const PAGE_SIZE = 1_000;

/** Looks up what others work on, and lists the table. */
export async function runReader(context: ClientContext, pool: Pool): Promise<void> {
  const { random, signal } = context;
  for (; !signal.aborted; await pause(context, MEAN_PAUSE_MS)) {
    const conferenceId = pick(pool.live, random);
    const choice = random();
    if (choice < 0.3 || conferenceId === undefined) await listDispatches(context);
    else if (choice < 0.6) await getDispatch(context, conferenceId);
    else await getConference(context, conferenceId);
  }
}

/** The revision of the listing, undefined when there was none. */
export async function listDispatches({ name, once, api, recorder }: ClientContext) {
  const result = await timed(once, async () => {
    const page = await api.conferences.listDispatches(
      { pageSize: PAGE_SIZE },
      { timeoutMs: CALL_TIMEOUT_MS },
    );
    if (page.nextPageToken) throw new Error("the table has grown beyond a page");
    const rows = page.dispatches.map(({ conferenceId, epoch, address }) => ({
      ...{ conferenceId, address },
      epoch: Number(epoch),
    }));
    return { revision: Number(page.revision), rows };
  });
  recorder.add({ client: name, once, call: "listDispatches", args: null, ...result });
  return result.outcome.kind === "ok" ? result.outcome.result.revision : undefined;
}

/** Follows the table from its beginning; `told` is the revision up to which it has been told everything. */
export function createWatcher(context: ClientContext) {
  const { name: watcher, api, recorder, signal } = context;
  let told = 0;
  return {
    get told() {
      return told;
    },
    async run() {
      for (; !signal.aborted; await pause(context, MEAN_PAUSE_MS)) {
        try {
          for await (const update of watchDispatches(api.conferences, { signal })) {
            if (update.kind === "restart") {
              recorder.watched({ watcher, kind: "restart" });
              continue;
            }
            told = Number(update.revision);
            const events = update.events.flatMap(({ type, cause, dispatch }) => ({
              type: type === EventType.PUT ? ("PUT" as const) : ("DELETE" as const),
              existing: cause === DispatchEvent_Cause.EXISTING,
              conferenceId: dispatch?.conferenceId ?? "",
              epoch: Number(dispatch?.epoch),
              address: dispatch?.address ?? "",
            }));
            recorder.watched({ watcher, kind: "events", revision: told, events });
          }
        } catch {
          // It has begun and could not go on; the next begins from nothing.
          if (!signal.aborted) recorder.watched({ watcher, kind: "restart" });
        }
      }
    },
  };
}
