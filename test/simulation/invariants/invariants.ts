import type { DetectionSettings } from "../../../common/detection.ts";
import type { Server } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { StoreEvent } from "../../../server/store/store.ts";
import type { ConferenceServer } from "../conference-server.ts";
import { describeChange } from "../describe.ts";
import { type Picture, type PictureChange, readChange } from "../picture.ts";
import { EPOCH_MS } from "../simulated-process.ts";
import { createTruth, type Truth } from "../truth.ts";
import type { World } from "../world.ts";
import { checkConference, checkObservation } from "./records.ts";
import { checkRest } from "./rest.ts";
import { createRoomChecks } from "./rooms.ts";
import { createVerdictChecks } from "./verdicts.ts";

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
        put(picture.servers, change.id, change.next);
        return;
      }
      case "conference": {
        const checks = { wishes, maxFailedAttempts, nowMs: EPOCH_MS + world.time.nowMs, revision };
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
    for (const event of events) {
      const change = readChange(event);
      if (!change) continue;
      world.trace.event("store", () => `${revision} ${describeChange(change)}`);
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
    rest: () => report(checkRest(world, picture, accepted)),
  };
}

function put<T>(map: Map<string, T>, key: string, value: T | undefined) {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
