import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { createKeys } from "../../server/store/keys.ts";
import type { Clients, ControlPlane } from "./control-plane.ts";
import { pass, type Registration, registerDispatchers, registerServers } from "./observing.ts";

/** With the default settings: no verdict DOWN before a replica has followed the store for so long. */
export const GRACE_MS = 2_000;
/** With the default settings: a majority stands so long before a verdict DOWN. */
export const SETTLE_MS = 150;
/** Longer than settling, and than any pace at which records are rewritten but for what only people read. */
export const SOON_MS = 1_500;

export const keys = createKeys();

/** A server that has been judged, and how. */
export async function readHealth(clients: Clients, serverId: string) {
  const { server } = await clients.servers.getServer({ serverId });
  if (!server?.health) throw new Error(`no health of ${serverId}`);
  return { server, health: server.health };
}

/** `DOWN REFUSALS`. */
export async function stateOf(clients: Clients, serverId: string): Promise<string> {
  const { server, health } = await readHealth(clients, serverId);
  return `${Server_State[server.state]} ${Server_Health_Cause[health.cause]}`;
}

/** How often a key was written since it was made. */
export async function versionOf({ store }: Pick<ControlPlane, "store">, key: string): Promise<number> {
  return Number((await store.range({ key })).kvs[0]?.version ?? 0n);
}

/** Three observers of each of some servers, and past the grace of the replica. */
export async function observed(plane: ControlPlane, count: number) {
  const dispatchers = await registerDispatchers(plane, 3);
  const servers = await registerServers(plane, count);
  await pass(plane, GRACE_MS);
  const [d1, d2, d3] = dispatchers as [Registration, Registration, Registration];
  return { dispatchers, servers, dead: servers.slice(0, 1), d1, d2, d3 };
}
