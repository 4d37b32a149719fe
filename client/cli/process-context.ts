import { isatty } from "node:tty";
import { systemClock } from "../../common/clock.ts";
import { InterruptedError } from "./cli-error.ts";
import { type CliContext, endpointOf, writeTo } from "./context.ts";
import { ExitCode } from "./exit-code.ts";

/** One Ctrl-C may arrive several times, from the terminal and from npm, which hands it on; these belong together. */
const SAME_SIGNAL_MS = 500;

/**
 * The context of this process. SIGINT or SIGTERM aborts its signal; another one half a second later or more ends the
 * process at once, for people who do not want to wait. With a deferred termination the first SIGTERM comes before that.
 */
export function createProcessContext(): CliContext {
  const { stdout, stderr, env } = process;
  const warn = (text: string) => void stderr.write(`warning: ${text}\n`);
  const interrupts = createInterrupts();
  let saidStale = false;
  return {
    // A getter, for opening standard input keeps a process alive that never reads it.
    get stdin() {
      return process.stdin;
    },
    stdout,
    stderr,
    env,
    clock: systemClock,
    program: [process.execPath, process.argv[1] ?? ""],
    ...interrupts,
    isTty: { stdin: isatty(0), stdout: isatty(1), stderr: isatty(2) },
    async connect(command) {
      const [{ createConvokeClient }, { observeStaleAnswers }] = await Promise.all([
        import("../transport/client.ts"),
        import("../transport/stale-answers.ts"),
      ]);
      const onStale = () => {
        if (!saidStale) warn("the control plane has lost its store; this is the last known state");
        saidStale = true;
      };
      const endpoint = endpointOf({ env }, command);
      return createConvokeClient({ endpoint, interceptors: [observeStaleAnswers(onStale)] });
    },
    print: (text) => writeTo(stdout, `${text}\n`),
    warn,
  };
}

function createInterrupts(): Pick<CliContext, "signal" | "deferTermination"> {
  const ending = new AbortController();
  let deferred: AbortController | undefined;
  let reachedMs = Number.NEGATIVE_INFINITY;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      const nowMs = systemClock.monotonicMs();
      const isSame = nowMs - reachedMs < SAME_SIGNAL_MS;
      const isDraining = deferred?.signal.aborted && !ending.signal.aborted;
      if (ending.signal.aborted) {
        if (!isSame) process.exit(name === "SIGINT" ? ExitCode.interrupted : ExitCode.terminated);
        return;
      }
      if (isDraining && isSame && name === "SIGTERM") return;
      reachedMs = nowMs;
      const next = name === "SIGTERM" && !isDraining ? (deferred ?? ending) : ending;
      next.abort(new InterruptedError(name));
    });
  }
  return {
    signal: ending.signal,
    deferTermination() {
      deferred ??= new AbortController();
      return deferred.signal;
    },
  };
}

/** Without a listener, a reader that has left would end the process with a stack trace; `print` tells the command. */
export function ignoreBrokenPipes(): void {
  process.stdout.on("error", () => {});
  process.stderr.on("error", () => {});
}
