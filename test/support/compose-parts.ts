import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

/** What is run of a service of a compose file. */
export interface ComposePart {
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
}

export interface RunningParts extends AsyncDisposable {
  /** host:port of gRPC of each replica. */
  readonly replicas: readonly string[];
  /** The health checks, ready to be run here. */
  readonly healthchecks: readonly (readonly string[])[];
}

const LAUNCHER = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));

/**
 * Runs the services that have a command of ours as processes of this machine: each with its command and variables, and
 * each port of each service replaced by a free one of this machine. The store is the given etcd.
 */
export async function runComposeParts(
  services: Readonly<Record<string, ComposePart>>,
  etcdEndpoints: readonly string[],
): Promise<RunningParts> {
  await using opening = new AsyncDisposableStack();
  const ports = new Map<string, Promise<number>>();
  const portOf = (service: string, port: string) => {
    const name = `${service}:${port}`;
    const free = ports.get(name) ?? freePort();
    ports.set(name, free);
    return free;
  };
  /** An address of a service, itself called 0.0.0.0, 127.0.0.1 or localhost. */
  const here = async (self: string, text: string) => {
    const parts = text.split(/((?:[a-z]+\d|0\.0\.0\.0|127\.0\.0\.1|localhost):\d+)/);
    for (const [index, part] of parts.entries()) {
      const [host = "", port = ""] = part.split(":");
      if (index % 2 === 1)
        parts[index] = `127.0.0.1:${await portOf(Object.hasOwn(services, host) ? host : self, port)}`;
    }
    return parts.join("");
  };
  const replicas: string[] = [];
  const healthchecks: string[][] = [];
  for (const [name, { command, environment = {}, healthcheck }] of Object.entries(services)) {
    if (!command) continue;
    const env: Record<string, string> = {};
    for (const [variable, value] of Object.entries(environment)) env[variable] = await here(name, value);
    const path = /^etcd:\/\/[^/]+(?<path>\/.*)?$/.exec(environment.CONVOKE_STORE ?? "")?.groups?.path ?? "";
    if (environment.CONVOKE_STORE) env.CONVOKE_STORE = `etcd://${etcdEndpoints.join(",")}${path}`;
    if (command[0] === "serve") replicas.push(env.CONVOKE_LISTEN ?? "");
    if (healthcheck?.test) {
      const [, program = "", ...args] = healthcheck.test;
      const local = await Promise.all(args.map((arg) => here(name, arg)));
      healthchecks.push([program === "node" ? process.execPath : program, ...local]);
    }
    const { PATH = "" } = process.env;
    const child = spawn(process.execPath, [LAUNCHER, ...command], { env: { PATH, ...env }, stdio: "ignore" });
    opening.defer(() => end(child));
  }
  const running = opening.move();
  return { replicas, healthchecks, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

async function end(child: ChildProcess) {
  if (child.exitCode === null && child.signalCode === null && child.kill("SIGKILL"))
    await once(child, "exit");
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}
