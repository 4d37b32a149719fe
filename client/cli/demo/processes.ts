import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Where a program is: what to run, and the arguments before ours. */
export type Program = readonly [command: string, ...args: string[]];

/** One process of the demo. */
export interface DemoProcess {
  readonly name: string;
  readonly pid: number;
  /** Resolves with the fields of the first log line that has this message; rejects when the process ends before. */
  logged(message: string, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>>;
  /** Ends it as a crash would: it gets no chance to say goodbye. Resolves once it is gone. */
  kill(): Promise<void>;
  /** Stops it where it stands, as a machine that hangs: its connections stay open, and nothing is answered. */
  freeze(): void;
  /** Lets it go on. */
  resume(): void;
}

/** The processes of one run: started together, ended together. */
export interface ProcessGroup extends AsyncDisposable {
  /**
   * Starts `convoke ARGS…`; its log goes to `<directory>/<name>.log`. A control plane is ended after all others, so that
   * they can sign off.
   */
  start(name: string, args: readonly string[], kind?: "control-plane"): DemoProcess;
  /** Rejects when a process ends that nobody ended. */
  readonly failed: Promise<never>;
}

/** How long a process has to stop gracefully. */
const STOP_TIMEOUT_MS = 5_000;

/**
 * @param directory where the logs go
 * @param options added to the arguments of every process
 */
export function createProcessGroup(
  program: Program,
  directory: string,
  options: readonly string[] = [],
): ProcessGroup {
  const children: Child[] = [];
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  const [command, ...before] = program;

  return {
    failed: failure.promise,
    start(name, args, kind) {
      const child = spawn(command, [...before, ...args, ...options], { stdio: ["ignore", "ignore", "pipe"] });
      const log = createWriteStream(join(directory, `${name}.log`));
      const messages = new Map<string, Readonly<Record<string, unknown>>>();
      const listeners = new Set<() => void>();
      const ended = { expected: false, done: false };
      const exited = new Promise<void>((resolve) => {
        const onEnd = (cause: string) => {
          ended.done = true;
          if (!ended.expected)
            failure.reject(new Error(`${name} ended by itself (${cause}); see ${log.path}`));
          for (const listener of listeners) listener();
          resolve();
        };
        child.once("error", (err) => onEnd(err.message));
        child.once("exit", (code, signal) => onEnd(`${signal ?? `exit code ${code}`}`));
      });
      createInterface({ input: child.stderr }).on("line", (line) => {
        log.write(`${line}\n`);
        const fields = parseLine(line);
        if (typeof fields.msg !== "string" || messages.has(fields.msg)) return;
        messages.set(fields.msg, fields);
        for (const listener of listeners) listener();
      });
      children.push({ process: child, exited, ended, last: kind === "control-plane" });
      return {
        name,
        pid: child.pid ?? 0,
        logged: (message, signal) =>
          new Promise((resolve, reject) => {
            const look = () => {
              const fields = messages.get(message);
              if (!fields && !ended.done && !signal.aborted) return;
              listeners.delete(look);
              signal.removeEventListener("abort", look);
              if (fields) resolve(fields);
              else
                reject(
                  signal.aborted ? signal.reason : new Error(`${name} ended before it logged "${message}"`),
                );
            };
            listeners.add(look);
            signal.addEventListener("abort", look, { once: true });
            look();
          }),
        async kill() {
          ended.expected = true;
          child.kill("SIGKILL");
          await exited;
        },
        freeze: () => void child.kill("SIGSTOP"),
        resume: () => void child.kill("SIGCONT"),
      };
    },
    async [Symbol.asyncDispose]() {
      for (const { ended } of children) ended.expected = true;
      await stopped(children.filter(({ last }) => !last));
      await stopped(children.filter(({ last }) => last));
    },
  };
}

interface Child {
  readonly process: ChildProcess;
  readonly exited: Promise<void>;
  readonly ended: { expected: boolean };
  readonly last: boolean;
}

async function stopped(children: readonly Child[]) {
  for (const { process: child } of children.toReversed()) {
    // SIGTERM asks an agent to drain, which nobody waits for here.
    child.kill("SIGINT");
    // One that is frozen would not hear it.
    child.kill("SIGCONT");
  }
  const timer = setTimeout(() => {
    for (const { process: child } of children) child.kill("SIGKILL");
  }, STOP_TIMEOUT_MS);
  await Promise.all(children.map(({ exited }) => exited));
  clearTimeout(timer);
}

/** A log line's fields; none for a line that is no log line, such as a crash report of the runtime. */
function parseLine(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
