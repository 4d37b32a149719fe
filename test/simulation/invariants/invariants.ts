import type { DetectionSettings } from "../../../common/detection.ts";
import { Dispatch_MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import type { QueryTotalResponse } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_Health_Cause, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { StoreEvent } from "../../../server/store/store.ts";
import { describeChange } from "../describe.ts";
import type { Figures } from "../figures.ts";
import { applyChange, createPicture, type Picture, type PictureChange, readChange } from "../picture.ts";
import { EPOCH_MS } from "../simulated-process.ts";
import { createTruth, type Truth } from "../truth.ts";
import type { World } from "../world.ts";
import { checkConference, checkObservation } from "./records.ts";
import { checkRest } from "./rest.ts";
import { createRoomChecks } from "./rooms.ts";
import { createShareChecks } from "./shares.ts";
import { createVerdictChecks } from "./verdicts.ts";

/** How far a replica's view may be behind without knowing it. */
const LONGEST_LAG_MS = 5_500;

/** Looks at everything that is written, hosted and answered, and fails the world when something is wrong. */
export interface Invariants {
  readonly picture: Picture;
  readonly truth: Truth;
  /** What operators have asked for. */
  readonly wishes: { readonly cancelled: Set<string>; readonly ended: Set<string> };
  /** Conferences whose creation was acknowledged. */
  readonly accepted: Set<string>;
  /** Before a conference server starts a room. */
  roomStarts(serverId: string, instanceId: string, conferenceId: string, epoch: bigint): void;
  /** An answer to QueryTotal. */
  shareTold(dispatcherId: string, answer: QueryTotalResponse): void;
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
  const picture = createPicture();
  const truth = createTruth(world);
  const wishes = { cancelled: new Set<string>(), ended: new Set<string>() };
  const accepted = new Set<string>();
  /** When the record of each server was last written. */
  const serverMs = new Map<string, number>();
  /** When each server was last drained, other than now. */
  const drainedMs = new Map<string, number>();
  const rooms = createRoomChecks(world);
  const shares = createShareChecks();
  const verdicts = createVerdictChecks(truth, detection, () => ({
    sinceBeginMs: world.time.nowMs,
    wallMs: EPOCH_MS + world.time.nowMs,
  }));

  function report(findings: Iterable<string>) {
    for (const finding of findings) world.fail(finding);
  }

  /** Checks a change by the picture before it. */
  function check(change: PictureChange, revision: bigint) {
    report(shares.changes(change, picture));
    switch (change.kind) {
      case "dispatcher":
        truth.registryChangedMs = world.time.nowMs;
        return;
      case "server": {
        if (change.next) report(verdicts.check(picture, picture.servers.get(change.id), change.next));
        // Known until it was written that it is no longer so.
        if (picture.servers.get(change.id)?.drain) drainedMs.set(change.id, world.time.nowMs);
        serverMs.set(change.id, world.time.nowMs);
        return;
      }
      case "conference": {
        const nowMs = EPOCH_MS + world.time.nowMs;
        const wasDrained = (serverId: string) =>
          (drainedMs.get(serverId) ?? Number.NEGATIVE_INFINITY) >= world.time.nowMs - LONGEST_LAG_MS;
        const checks = { wishes, maxFailedAttempts, nowMs, revision, wasDrained };
        report(checkConference(picture, picture.conferences.get(change.id), change.next, checks));
        return;
      }
      case "observation":
        report(checkObservation(picture, change));
        return;
      default:
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
      check(change, revision);
      applyChange(picture, change);
    }
  });

  return {
    picture,
    truth,
    wishes,
    accepted,
    roomStarts: (...start) => report(rooms.starts(...start)),
    shareTold: (dispatcherId, answer) => report(shares.told(dispatcherId, answer)),
    look: () => report(rooms.look(picture)),
    rest: () => report(checkRest(world, picture, accepted, rooms, (id) => serverMs.get(id) ?? 0)),
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
