import { watchDispatches } from "../../client/watch.ts";
import { timestampMs } from "../../common/time.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatch } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import type { Chance } from "./chance.ts";
import { hasValidDispatch, readPicture } from "./picture.ts";
import { CALM_MS } from "./scenario.ts";
import { createSimulatedProcess, EPOCH_MS } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** How often what was read and watched is compared with the store, besides at the end. */
const AUDITS = 1;

/** Before the end, when nothing changes any more. */
const LAST_AUDIT_MS = 500;

/** What is about to lose its validity may be shown by one way and not by the other. */
const MARGIN_MS = 500;

/**
 * An application that follows the dispatch table. It checks I7: what it has made of the watch, and what it reads, is what
 * the store held at that revision.
 */
export function startApplication(world: World, chance: Chance): void {
  const { time, scenario, store } = world;
  const process = createSimulatedProcess("app", time);
  const conferences = world.rpc.client(ConferenceService, world.controlPlaneClient(process));
  const rows = new Map<string, Dispatch>();
  let revision = 0n;

  async function follow() {
    while (!process.signal.aborted) {
      try {
        // Rows at revision 0 are the beginning of a list: until its end, what was known before is half forgotten.
        for await (const update of watchDispatches(conferences, {
          clock: process.clock,
          signal: process.signal,
          revision,
        })) {
          if (update.kind === "restart") {
            rows.clear();
            revision = 0n;
            continue;
          }
          for (const { type, dispatch } of update.events) {
            if (!dispatch) continue;
            if (type === EventType.PUT) rows.set(dispatch.conferenceId, dispatch);
            else rows.delete(dispatch.conferenceId);
          }
          revision = update.revision;
        }
      } catch (err) {
        world.trace.event("app", () => `cannot watch: ${String(err)}`);
        if (revision === 0n) rows.clear();
        await new Promise<void>((resolve) => process.clock.setTimer(resolve, 500));
      }
    }
  }

  async function compare(how: string, at: bigint, found: Iterable<Dispatch>) {
    if (at === 0n) return;
    const wallMs = EPOCH_MS + time.nowMs;
    const told = new Map([...found].map((dispatch) => [dispatch.conferenceId, dispatch]));
    const { kvs } = await store.range({ prefix: "", revision: at });
    const picture = readPicture(kvs);
    for (const entry of picture.conferences.values()) {
      const { dispatch } = entry.conference;
      const seen = told.get(entry.id);
      told.delete(entry.id);
      const isValid = hasValidDispatch(picture, entry);
      if (dispatch?.validUntil && timestampMs(dispatch.validUntil) <= wallMs + MARGIN_MS) continue;
      if ((isValid ? dispatch?.epoch : undefined) !== seen?.epoch)
        world.fail(
          `I7: at revision ${at} the store has ${entry.id} ${isValid ? `dispatched under ${dispatch?.epoch}` : "not dispatched"}, and ${how} has ${seen?.epoch ?? "nothing"}`,
        );
    }
    for (const id of told.keys()) world.fail(`I7: at revision ${at} the store has no ${id}, and ${how} has`);
  }

  async function audit() {
    await compare("the watch", revision, rows.values());
    try {
      const page = await conferences.listDispatches({ pageSize: 1_000 }, { timeoutMs: 3_000 });
      await compare("the list", page.revision, page.dispatches);
    } catch (err) {
      world.trace.event("app", () => `cannot list: ${String(err)}`);
    }
  }

  process.clock.setTimer(() => void follow(), 1_000);
  for (let count = 0; count < AUDITS; count++)
    process.clock.setTimer(() => void audit(), chance.between(CALM_MS, scenario.endMs - LAST_AUDIT_MS));
  process.clock.setTimer(() => void audit(), scenario.endMs - LAST_AUDIT_MS);
}
