import { Observation_Verdict } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Server } from "../../proto/gen/convoke/v1/server_pb.js";
import type { Clients, ControlPlane } from "./control-plane.ts";
import { registerDispatcher, registerServer } from "./scheduling.ts";

/** Registrations, whose dispatchers observe by hand. */
export type Registration = Awaited<ReturnType<typeof registerDispatcher>>;

/** What an observer reports, in a row as often as makes a vote with the default settings. */
export const REFUSED = { verdict: Observation_Verdict.FAILED, inARow: 2, detail: "connection refused" };
export const REFUSED_ONCE = { ...REFUSED, inARow: 1 };
export const SILENT = { verdict: Observation_Verdict.TIMEOUT, inARow: 3, detail: "no answer in 750 ms" };
export const SILENT_ONCE = { ...SILENT, inARow: 1 };
export const ANSWERS = { verdict: Observation_Verdict.OK, inARow: 2, detail: "" };

export type Seen = typeof REFUSED;

/** Dispatchers `d1`, … on leases that outlast a test. */
export async function registerDispatchers(clients: Clients, count: number): Promise<Registration[]> {
  const registrations: Registration[] = [];
  for (let index = 1; index <= count; index++)
    registrations.push(await registerDispatcher(clients, `d${index}`, 600_000));
  return registrations;
}

/** Servers `s01`, …. */
export async function registerServers(clients: Clients, count: number): Promise<Server[]> {
  const servers: Server[] = [];
  for (let index = 1; index <= count; index++)
    servers.push(await registerServer(clients, `s${String(index).padStart(2, "0")}`));
  return servers;
}

/** One dispatcher reports the same of some servers. */
export async function report(
  clients: Clients,
  registration: Registration,
  servers: readonly Pick<Server, "serverId" | "incarnation">[],
  seen: Seen,
) {
  await clients.dispatchers.reportObservations({
    ...registration,
    observations: servers.map(({ serverId, incarnation }) => ({ serverId, incarnation, ...seen })),
  });
}

/** Lets time pass in steps, and what is written at each step be done: what follows from it is then written, too. */
export async function pass({ clock, store }: Pick<ControlPlane, "clock" | "store">, ms: number, stepMs = 25) {
  for (let leftMs = ms; leftMs > 0; leftMs -= stepMs) {
    await clock.advance(Math.min(leftMs, stepMs));
    // Transactions queue, so all that were sent before this one are done with it.
    await store.txn({ compare: [], then: [{ get: { key: "none" } }] });
  }
  await clock.advance(0);
}
