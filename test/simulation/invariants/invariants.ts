import type { DetectionSettings } from "../../../common/detection.ts";
import { Dispatch_MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { type Server, Server_Health_Cause, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { StoreEvent } from "../../../server/store/store.ts";
import type { ConferenceServer } from "../conference-server.ts";
import { describeChange } from "../describe.ts";
import type { Figures } from "../figures.ts";
import { type Picture, type PictureChange, readChange } from "../picture.ts";
import { EPOCH_MS } from "../simulated-process.ts";
import { createTruth, type Truth } from "../truth.ts";
import type { World } from "../world.ts";
import { checkConference, checkObservation } from "./records.ts";
import { checkRest } from "./rest.ts";
import { createRoomChecks } from "./rooms.ts";
import { createVerdictChecks } from "./verdicts.ts";

/** How far a replica's view may be behind without knowing it. */
const LONGEST_LAG_MS = 6_500;

/** Looks at everything that is written, hosted and answered, and fails the world when something is wrong. */
export interface Invariants {
  readonly picture: Picture;
  readonly truth: Truth;
  /** What operators have asked for. */
  readonly wishes: { readonly cancelled: Set<string>; readonly ended: Set<string> };
  /** Conferences whose creation was acknowledged. */
  readonly accepted: Set<string>;
  /** Before a conference server starts a room. */
  roomStarts(server: ConferenceServer, conferenceId: string, epoch: bigint): void;
  /** To be called again and again: what no write shows. */
  look(): void;
  /** To be called at the end, when the world has been left alone. */
  rest(): void;
}

export function createInvariants(
  world: World,
  detection: DetectionSettings,
  maxFailedAttempts: number,
): Invariants {
  const picture = {
    dispatchers: new Map(),
    servers: new Map<string, Server>(),
    conferences: new Map(),
    observations: new Map(),
    releasedUntilMs: 0,
  };
  const truth = createTruth(world);
  const wishes = { cancelled: new Set<string>(), ended: new Set<string>() };
  const accepted = new Set<string>();
  /** When each server was last drained, other than now. */
  const drainedMs = new Map<string, number>();
  const rooms = createRoomChecks(world);
  const verdicts = createVerdictChecks(truth, detection, () => ({
    sinceBeginMs: world.time.nowMs,
    wallMs: EPOCH_MS + world.time.nowMs,
  }));

  function report(findings: Iterable<string>) {
    for (const finding of findings) world.fail(finding);
  }

  function apply(change: PictureChange, revision: bigint) {
    switch (change.kind) {
      case "dispatcher":
        truth.registryChangedMs = world.time.nowMs;
        put(picture.dispatchers, change.id, change.next);
        return;
      case "server": {
        if (change.next) report(verdicts.check(picture, picture.servers.get(change.id), change.next));
        // Known until it was written that it is no longer so.
        if (picture.servers.get(change.id)?.drain) drainedMs.set(change.id, world.time.nowMs);
        put(picture.servers, change.id, change.next);
        return;
      }
      case "conference": {
        const nowMs = EPOCH_MS + world.time.nowMs;
        const wasDrained = (serverId: string) =>
          (drainedMs.get(serverId) ?? Number.NEGATIVE_INFINITY) >= world.time.nowMs - LONGEST_LAG_MS;
        const checks = { wishes, maxFailedAttempts, nowMs, revision, wasDrained };
        report(checkConference(picture, picture.conferences.get(change.id), change.next, checks));
        put(picture.conferences, change.id, change.next);
        return;
      }
      case "observation":
        report(checkObservation(picture, change));
        put(picture.observations, change.id, change.next);
        return;
      case "brake":
        picture.releasedUntilMs = change.releasedUntilMs;
        return;
      case "round":
        return;
    }
  }

  world.store.subscribe((revision: bigint, events: readonly StoreEvent[]) => {
    world.figures.revisions += 1;
    for (const event of events) {
      const change = readChange(event, world.time.nowMs);
      if (!change) continue;
      world.trace.event("store", () => `${revision} ${describeChange(change)}`);
      countChange(world.figures, picture, change, revision);
      apply(change, revision);
    }
  });

  return {
    picture,
    truth,
    wishes,
    accepted,
    roomStarts: (server, conferenceId, epoch) => report(rooms.starts(server, conferenceId, epoch)),
    look: () => report(rooms.look(picture)),
    rest: () => report(checkRest(world, picture, accepted, rooms)),
  };
}

/** Counts what a change is, by the picture before it. */
function countChange(figures: Figures, picture: Picture, change: PictureChange, revision: bigint) {
  switch (change.kind) {
    case "dispatcher":
      if (picture.dispatchers.has(change.id)) figures.endedEpochs += 1;
      return;
    case "server": {
      const before = picture.servers.get(change.id);
      const { state, health, incarnation } = change.next ?? {};
      if (state === Server_State.DOWN && before?.state !== Server_State.DOWN) figures.down += 1;
      const isHeld = health?.cause === Server_Health_Cause.HELD_BY_BRAKE;
      if (isHeld && before?.health?.cause !== Server_Health_Cause.HELD_BY_BRAKE) figures.held += 1;
      if (before && incarnation !== before.incarnation) figures.incarnations += 1;
      return;
    }
    case "conference": {
      const { conference, claim } = change.next ?? {};
      if (!picture.conferences.has(change.id)) figures.conferences += 1;
      if (claim?.dispatchEpoch === revision) figures.claims += 1;
      const standing = picture.conferences.get(change.id)?.conference.dispatch;
      if (!conference?.dispatch || conference.dispatch.epoch === standing?.epoch) return;
      figures.dispatches += 1;
      if (conference.dispatch.moveReason === Dispatch_MoveReason.DRAIN) figures.movedFromDrained += 1;
      else if (standing) figures.movedFromLost += 1;
      return;
    }
    case "observation":
      if (change.next) figures.reports += 1;
      return;
    case "round":
      if (change.members.length > 0) figures.rounds += 1;
      return;
    case "brake":
      return;
  }
}

function put<T>(map: Map<string, T>, key: string, value: T | undefined) {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
