import { durationFromMs, timestampFromMs } from "../../common/time.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import type { Chance } from "./chance.ts";
import { CALM_MS } from "./scenario.ts";
import { createSimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** How long after a booking its conference begins at most, beyond the window. */
const LEAD_MS = 4_000;

/** Most go on beyond the end of the world, some end within it. */
const SHORT_PART = 0.3;
const SHORT_MS = { least: 2_500, most: 12_000 } as const;
const LONG_MS = 3_600_000;

const CALL_TIMEOUT_MS = 3_000;
const RETRY_MS = 700;

/** Books, changes and calls off conferences, and does what operators do to servers, as the seed says. */
export interface Operator {
  /** Books more conferences that are due at once, within this time. */
  bookMore(count: number, withinMs: number): void;
}

export function startOperator(world: World, chance: Chance): Operator {
  const { scenario, time, trace } = world;
  const process = createSimulatedProcess("operator", time);
  const client = world.controlPlaneClient(process);
  const conferences = world.rpc.client(ConferenceService, client);
  const servers = world.rpc.client(ServerService, client);
  const call = { timeoutMs: CALL_TIMEOUT_MS };
  const ids: string[] = [];

  /** Does something until it works or nobody wants it any more. */
  async function insist(what: string, act: () => Promise<unknown>) {
    for (let tries = 0; tries < 40; tries++) {
      try {
        await act();
        trace.event("operator", () => what);
        return true;
      } catch (err) {
        trace.event("operator", () => `${what} failed: ${String(err)}`);
        await new Promise<void>((resolve) => process.clock.setTimer(resolve, RETRY_MS));
      }
    }
    return false;
  }

  async function book(id: string, leadMs = chance.between(0, scenario.windowMs + LEAD_MS)) {
    const nowMs = process.clock.wallMs();
    const startMs = Math.round(nowMs + leadMs);
    const lastsMs = chance.happens(SHORT_PART) ? chance.between(SHORT_MS.least, SHORT_MS.most) : LONG_MS;
    const weight = chance.pick([1, 1, 1, 2, 3]);
    const conference = {
      conferenceId: id,
      startTime: timestampFromMs(startMs),
      endTime: timestampFromMs(Math.round(startMs + lastsMs)),
      weight,
    };
    const isBooked = await insist(`books ${id}`, () =>
      conferences.createConference({ conference, requestId: `book-${id}` }, call),
    );
    if (isBooked) world.invariants.accepted.add(id);
  }

  function someConference(act: (id: string) => void) {
    const id = ids.length > 0 ? chance.pick(ids) : undefined;
    if (id !== undefined && world.invariants.accepted.has(id)) act(id);
  }

  const cancel = () =>
    someConference((id) => {
      world.invariants.wishes.cancelled.add(id);
      void conferences.cancelConference({ conferenceId: id }, call).catch(() => {});
    });
  const end = () =>
    someConference((id) => {
      world.invariants.wishes.ended.add(id);
      void conferences.endConference({ conferenceId: id }, call).catch(() => {});
    });
  const update = () =>
    someConference((id) => {
      const paths = chance.happens(0.5) ? ["end_time"] : ["weight"];
      const endMs = process.clock.wallMs() + chance.between(15_000, LONG_MS);
      const conference = {
        conferenceId: id,
        endTime: timestampFromMs(Math.round(endMs)),
        weight: chance.whole(1, 3),
      };
      void conferences.updateConference({ conference, updateMask: { paths } }, call).catch(() => {});
    });

  const someServer = () => chance.pick(world.servers).id;
  const uncordon = (serverId: string) =>
    insist(`uncordons ${serverId}`, () => servers.uncordonServer({ serverId }, call));

  function cordon() {
    const serverId = someServer();
    void insist(`cordons ${serverId}`, () => servers.cordonServer({ serverId }, call));
    later(chance.between(500, 5_000), () => uncordon(serverId));
  }
  function drain() {
    const serverId = someServer();
    const deadline = durationFromMs(chance.pick([0, 0, chance.whole(500, 4_000)]));
    void insist(`drains ${serverId}`, () => servers.drainServer({ serverId, deadline }, call));
    // Sometimes in the middle of it, sometimes when the world is mended.
    if (chance.happens(0.4)) later(chance.between(100, 3_000), () => uncordon(serverId));
  }
  function release() {
    void insist("releases the brake", () =>
      servers.releaseBrake({ duration: durationFromMs(chance.whole(1_000, 10_000)) }, call),
    );
  }

  const later = (delayMs: number, act: () => unknown) =>
    time.at(time.nowMs + delayMs, () => process.enter(() => void act()));
  const sometime = () => CALM_MS + (scenario.stormUntilMs - CALM_MS) * chance.next() - time.nowMs;

  function nextId() {
    const id = `c${String(ids.length + 1).padStart(2, "0")}`;
    ids.push(id);
    return id;
  }
  for (let index = 1; index <= scenario.conferences; index++) {
    const id = nextId();
    // Half of them stand before anything goes wrong.
    later(chance.happens(0.5) ? chance.between(1_500, CALM_MS) : sometime(), () => book(id));
  }
  for (const [act, most] of [
    [cancel, 2],
    [end, 2],
    [update, 3],
  ] as const) {
    for (let count = chance.whole(0, most); count > 0; count--) later(sometime(), act);
  }
  for (const [act, probability] of [
    [cordon, 0.25],
    [drain, 0.3],
    [drain, 0.15],
    [release, 0.08],
  ] as const) {
    if (chance.happens(probability)) later(sometime(), act);
  }
  time.at(scenario.healMs, () => {
    for (const { id } of world.servers) void uncordon(id);
  });
  return {
    bookMore(count, withinMs) {
      for (let left = count; left > 0; left--) later(chance.between(0, withinMs), () => book(nextId(), 0));
    },
  };
}
