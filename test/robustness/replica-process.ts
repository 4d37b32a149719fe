import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** One `convoke serve` that is killed, paused and started again on the same port. */
export interface ReplicaProcess {
  /** host:port of gRPC, the same for all its lives. */
  readonly endpoint: string;
  /** Ends that nobody asked for, with what was logged last. */
  readonly surprises: readonly string[];
  /** Resolves once it serves; tries again when it ends before, until the signal aborts. */
  start(signal: AbortSignal): Promise<void>;
  kill(): Promise<void>;
  pause(): void;
  resume(): void;
}

export interface ReplicaOptions {
  /** Empty for any port at first. */
  readonly store: string;
  readonly logFile: string;
}

const PROGRAM = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));
const RETRY_MS = 500;
const START_TIMEOUT_MS = 60_000;

export function createReplicaProcess({ store, logFile }: ReplicaOptions): ReplicaProcess {
  const surprises: string[] = [];
  const log = createWriteStream(logFile, { flags: "a" });
  let endpoint = "127.0.0.1:0";
  let running: { readonly child: ChildProcess; readonly exited: Promise<void> } | undefined;
  let expected = false;

  async function startOnce(): Promise<boolean> {
    expected = false;
    const args = ["serve", "--listen", endpoint, "--http", "127.0.0.1:0", "--store", store];
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    const endWithUs = () => child.kill("SIGKILL");
    process.once("exit", endWithUs);
    const { promise: serving, resolve: serve } = Promise.withResolvers<boolean>();
    let last = "";
    createInterface({ input: child.stderr }).on("line", (line) => {
      log.write(`${line}\n`);
      last = line;
      const address = /"grpc":"([^"]+)".*"msg":"serving"/.exec(line)?.[1];
      if (address === undefined) return;
      endpoint = address;
      serve(true);
    });
    const exited = new Promise<void>((resolve) => {
      child.once("exit", (code, signal) => {
        process.off("exit", endWithUs);
        running = undefined;
        if (!expected) surprises.push(`ended by itself (${signal ?? code}): ${last}`);
        serve(false);
        resolve();
      });
    });
    running = { child, exited };
    return await serving;
  }

  return {
    get endpoint() {
      return endpoint;
    },
    surprises,
    async start(signal) {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
      while (!(await startOnce())) {
        deadline.throwIfAborted();
        await delay(RETRY_MS, undefined, { signal: deadline });
      }
    },
    async kill() {
      expected = true;
      running?.child.kill("SIGKILL");
      await running?.exited;
    },
    pause: () => void running?.child.kill("SIGSTOP"),
    resume: () => void running?.child.kill("SIGCONT"),
  };
}
