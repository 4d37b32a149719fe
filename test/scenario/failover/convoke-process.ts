import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** How a process ended: its exit code, or the signal that ended it. */
export type Exit = number | NodeJS.Signals;

/** A `convoke` process that a test kills, freezes and signals. */
export interface ConvokeProcess {
  readonly name: string;
  readonly pid: number;
  /** Resolves with the fields of the first log line with this message; rejects when the process ends before. */
  logged(message: string): Promise<Readonly<Record<string, unknown>>>;
  /** Sends a signal and resolves with how the process ended. */
  end(signal: "SIGKILL" | "SIGTERM" | "SIGINT"): Promise<Exit>;
  /** Resolves with how it ended by itself, which is what the test wants. */
  endsByItself(): Promise<Exit>;
  /** SIGSTOP: its connections stay open, and nothing is answered. */
  freeze(): void;
  /** SIGCONT. */
  resume(): void;
}

/** The processes of one test, all killed at its end. */
export interface ConvokeProcesses extends AsyncDisposable {
  /** Starts `convoke ARGS…`; its log goes to `<directory>/<name>.log`. */
  start(name: string, args: readonly string[]): ConvokeProcess;
  /** Ends that nobody asked for, with what was logged last. */
  readonly surprises: readonly string[];
}

export const PROGRAM = fileURLToPath(new URL("../../../bin/convoke.js", import.meta.url));

/** Against hanging; a busy machine takes seconds to start a process. */
const LOG_TIMEOUT_MS = 30_000;

export function createConvokeProcesses(directory: string): ConvokeProcesses {
  const surprises: string[] = [];
  const running = new Set<ConvokeProcess>();
  // Nothing stays behind when the test process ends early.
  const endWithUs = () => {
    for (const { pid } of running) process.kill(pid, "SIGKILL");
  };
  process.once("exit", endWithUs);

  function start(name: string, args: readonly string[]): ConvokeProcess {
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    const log = createWriteStream(join(directory, `${name}.log`), { flags: "a" });
    const messages = new Map<string, Readonly<Record<string, unknown>>>();
    const looks = new Set<() => void>();
    let expected = false;
    let ended: Exit | undefined;
    let last = "";
    createInterface({ input: child.stderr }).on("line", (line) => {
      log.write(`${line}\n`);
      last = line;
      const fields = parseLine(line);
      if (typeof fields.msg !== "string" || messages.has(fields.msg)) return;
      messages.set(fields.msg, fields);
      for (const look of looks) look();
    });
    const exited = new Promise<Exit>((resolve) => {
      child.once("close", (code, signal) => {
        running.delete(handle);
        ended = signal ?? code ?? 1;
        if (!expected) surprises.push(`${name} ended by itself (${ended}): ${last}`);
        for (const look of looks) look();
        resolve(ended);
      });
    });
    const handle: ConvokeProcess = {
      name,
      pid: child.pid ?? 0,
      logged: (message) =>
        new Promise((resolve, reject) => {
          const look = () => {
            const fields = messages.get(message);
            if (!fields && ended === undefined) return;
            stop();
            if (fields) resolve(fields);
            else reject(new Error(`${name} ended (${ended}) before it logged "${message}": ${last}`));
          };
          const timer = setTimeout(() => {
            stop();
            reject(new Error(`${name} did not log "${message}"; its last line: ${last}`));
          }, LOG_TIMEOUT_MS);
          const stop = () => {
            clearTimeout(timer);
            looks.delete(look);
          };
          looks.add(look);
          look();
        }),
      end(signal) {
        expected = true;
        child.kill(signal);
        return exited;
      },
      endsByItself() {
        expected = true;
        return exited;
      },
      freeze: () => void child.kill("SIGSTOP"),
      resume: () => void child.kill("SIGCONT"),
    };
    running.add(handle);
    return handle;
  }

  return {
    start,
    surprises,
    async [Symbol.asyncDispose]() {
      process.off("exit", endWithUs);
      await Promise.all([...running].map((each) => each.end("SIGKILL")));
    },
  };
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
