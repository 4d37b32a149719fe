import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createProcessGroup, type DemoProcess } from "../../client/cli/demo/processes.ts";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";

/** A control plane as a process of its own, on data that outlives it, and whatever else a test starts beside it. */
export interface Deployment extends AsyncDisposable {
  /** host:port of gRPC; stays the same across restarts. */
  readonly endpoint: string;
  /** host:port of HTTP. */
  readonly http: string;
  readonly client: ConvokeClient;
  /** SIGKILL to the control plane. */
  killControlPlane(): Promise<void>;
  /** Starts it again on its data and its ports. */
  restartControlPlane(): Promise<void>;
  /** Starts `convoke ARGS… --endpoint …`. */
  start(name: string, args: readonly string[]): DemoProcess;
}

/** How long a process may take to start on a busy machine. */
const START_TIMEOUT_MS = 30_000;

const PROGRAM = [process.execPath, fileURLToPath(new URL("../../bin/convoke.js", import.meta.url))] as const;

export async function startDeployment(): Promise<Deployment> {
  const directory = await mkdtemp(join(tmpdir(), "convoke-test-"));
  const group = createProcessGroup(PROGRAM, directory);
  let lives = 0;
  const serve = async (listen: string, http: string) => {
    const process = group.start(
      `control-plane-${++lives}`,
      [
        ...["serve", "--listen", listen, "--http", http, "--store", `embedded:${join(directory, "store")}`],
        ...["--log-level", "debug"],
      ],
      "control-plane",
    );
    const addresses = await process.logged("serving", AbortSignal.timeout(START_TIMEOUT_MS));
    return { process, endpoint: String(addresses.grpc), http: String(addresses.http) };
  };
  let controlPlane = await serve("127.0.0.1:0", "127.0.0.1:0");
  const { endpoint, http } = controlPlane;
  const client = createConvokeClient({ endpoint });
  return {
    endpoint,
    http,
    client,
    killControlPlane: () => controlPlane.process.kill(),
    async restartControlPlane() {
      controlPlane = await serve(endpoint, http);
    },
    start: (name, args) => group.start(name, [...args, "--endpoint", endpoint]),
    async [Symbol.asyncDispose]() {
      client.close();
      await group[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
