import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { DemoProcess, ProcessGroup } from "./processes.ts";

/** The replicas of a run, over one store. */
export interface ControlPlanes {
  readonly replicas: readonly Replica[];
  /** host:port of each. */
  readonly endpoints: readonly string[];
}

export interface Replica {
  readonly process: DemoProcess;
  /** host:port of gRPC. */
  readonly endpoint: string;
}

/** Where a run keeps its data: by itself in the store that is given, or in its own directory. */
export function storeOfRun(given: string | undefined, directory: string): string {
  if (given === undefined) return `embedded:${join(directory, "store")}`;
  const [path = "", query] = given.split("?");
  const run = `${path.replace(/\/+$/, "")}/demo-${randomBytes(6).toString("hex")}`;
  return query === undefined ? run : `${run}?${query}`;
}

/** Whether only one process may have the store open. */
export function isEmbedded(store: string | undefined): boolean {
  return store === undefined || store.startsWith("embedded:");
}

/** Starts the replicas and resolves once all serve. */
export async function startControlPlanes(
  group: ProcessGroup,
  count: number,
  store: string,
  signal: AbortSignal,
): Promise<ControlPlanes> {
  const replicas = await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const process = group.start(
        count === 1 ? "control-plane" : `control-plane-${index + 1}`,
        ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", store],
        "control-plane",
      );
      const { grpc } = await process.logged("serving", signal);
      return { process, endpoint: String(grpc) };
    }),
  );
  return { replicas, endpoints: replicas.map(({ endpoint }) => endpoint) };
}
