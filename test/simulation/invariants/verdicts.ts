import { brakeAllowance, type DetectionSettings } from "../../../common/detection.ts";
import { highestRanked } from "../../../common/rendezvous.ts";
import { type Server, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { type Picture, reservedUnits } from "../picture.ts";
import type { Truth } from "../truth.ts";

/**
 * How long after a server is well again its last bad reports may still bring it down: the observers have to notice, and
 * a replica that lags has to hear of it.
 */
const ECHO_MS = 4_000;

/** Checks I8 on verdicts: no server goes DOWN that nothing has happened to, nor more at a time than the brake allows. */
export interface VerdictChecks {
  check(picture: Picture, before: Server | undefined, after: Server): Generator<string>;
}

export function createVerdictChecks(
  truth: Truth,
  settings: DetectionSettings,
  now: () => { readonly sinceBeginMs: number; readonly wallMs: number },
): VerdictChecks {
  /** When each server was last declared DOWN. */
  const downs = new Map<string, number>();

  /** Observers for which something was wrong between them and the server lately. */
  function wronged(
    picture: Picture,
    serverId: string,
  ): { readonly count: number; readonly observers: number } {
    const { sinceBeginMs, wallMs } = now();
    const observers = highestRanked(serverId, picture.dispatchers.keys(), settings.observers);
    // An operator who releases the brake takes it upon himself that it is not the network of the observers.
    const isReleased = picture.releasedUntilMs > wallMs - ECHO_MS;
    const wrongMs = (id: string) =>
      Math.max(truth.pairSickMs(id, serverId), isReleased ? truth.pairDarkMs(id, serverId) : 0);
    const count = observers.filter((id) => wrongMs(id) >= sinceBeginMs - ECHO_MS).length;
    return { count, observers: observers.length };
  }

  function* checkDown(picture: Picture, server: Server): Generator<string> {
    const { serverId } = server;
    const { sinceBeginMs, wallMs } = now();
    const { count, observers } = wronged(picture, serverId);
    const isSick =
      truth.serverSickMs(serverId) >= sinceBeginMs - ECHO_MS ||
      (truth.registryChangedMs >= sinceBeginMs - ECHO_MS &&
        truth.pairSickOfAnyMs(serverId) >= sinceBeginMs - ECHO_MS);
    if (!isSick && 2 * count <= observers)
      yield `I8: ${serverId} was declared DOWN, and answered all but ${count} of its ${observers} observers`;
    // Nothing moves when one goes that has been emptied: it counts for nobody.
    if (isEmptied(picture, server)) return;
    downs.set(serverId, sinceBeginMs);
    if (picture.releasedUntilMs > wallMs) return;
    const windowMs = settings.brakeWindowMs;
    const recent = [...downs].filter(([, atMs]) => atMs > sinceBeginMs - windowMs);
    const failing = new Set(recent.map(([id]) => id));
    const long = [...picture.servers.values()].filter(
      (one) => one.state === Server_State.DOWN && !failing.has(one.serverId),
    ).length;
    const allowed = brakeAllowance(settings, picture.servers.size - long);
    if (failing.size > allowed)
      yield `I8: ${[...failing].sort().join(", ")} were declared DOWN within ${windowMs / 1000} s, where the brake allows ${allowed} of ${picture.servers.size}`;
  }

  return {
    *check(picture, before, after) {
      const { serverId } = after;
      if (before && after.incarnation < before.incarnation)
        yield `I2: ${serverId} went back from incarnation ${before.incarnation} to ${after.incarnation}`;
      if (before && (after.incarnation !== before.incarnation) !== (after.instanceId !== before.instanceId))
        yield `I5: ${serverId} is in incarnation ${after.incarnation} as ${after.instanceId} after ${before.incarnation} as ${before.instanceId}`;
      if (after.state !== Server_State.DOWN || before?.state === Server_State.DOWN) return;
      yield* checkDown(picture, after);
    },
  };
}

function isEmptied(picture: Picture, { serverId, drain }: Server): boolean {
  return drain !== undefined && reservedUnits(picture, serverId) === 0;
}
