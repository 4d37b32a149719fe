import type { Readable, Writable } from "node:stream";
import type { Command } from "commander";
import type { Clock } from "../../common/clock.ts";
import type { ConvokeClient } from "../transport/client.ts";

/**
 * Everything a command touches outside itself, so that it runs without a process. A command ends by returning (exit
 * code 0) or by throwing: `CliError` for what it found itself, anything else as it comes; it never calls process.exit.
 */
export interface CliContext {
  readonly stdin: Readable;
  /** For results only, so that programs can read them. Write with `print`, which waits for a slow reader. */
  readonly stdout: Writable;
  /** For logs, progress, warnings and errors. */
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** How this program was started: the command, and the arguments before its own. For commands that start others. */
  readonly program: readonly [command: string, ...args: string[]];
  /**
   * Aborts on SIGINT and SIGTERM with an `InterruptedError`. A command that throws after that exits with 130 or 143; one
   * that stops gracefully and returns exits with 0.
   */
  readonly signal: AbortSignal;
  /**
   * For commands that take SIGTERM as a request to finish their work first: from now on the first SIGTERM aborts the signal
   * returned, with an `InterruptedError`, and only SIGINT or another SIGTERM aborts `signal`.
   */
  deferTermination(): AbortSignal;
  /** Which of the three are terminals. */
  readonly isTty: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean };
  /**
   * A client of the control plane that the command line or the environment names; the caller closes it (`using`). Loads
   * the gRPC machinery, so call it inside an action only.
   */
  connect(command: Command): Promise<ConvokeClient>;
  /** Deletes all that a deployment keeps in a store; set by programs that hold a control plane as well. */
  readonly eraseStore?: (location: string) => Promise<void>;
  /** Writes the text and a line feed to stdout; resolves when stdout takes more. */
  print(text: string): Promise<void>;
  /** Writes `warning: <text>` to stderr. */
  warn(text: string): void;
}

/** Where `convoke serve` listens unless told otherwise. The same as the client's default, without loading the client. */
const DEFAULT_ENDPOINT = "127.0.0.1:7400";

/**
 * The control plane's host:port, of several replicas with commas between: `--endpoint` before or after the command's
 * name, else CONVOKE_ENDPOINT, else the default.
 */
export function endpointOf(context: Pick<CliContext, "env">, command: Command): string {
  const { endpoint } = command.optsWithGlobals<{ endpoint?: string }>();
  return endpoint ?? (context.env.CONVOKE_ENDPOINT || DEFAULT_ENDPOINT);
}

/** Writes to a stream and resolves when it takes more; rejects when the stream fails. */
export function writeTo(stream: Writable, text: string): Promise<void> {
  if (stream.errored) return Promise.reject(stream.errored);
  if (stream.write(text)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const settle = (err?: Error) => {
      stream.off("drain", settle);
      stream.off("error", settle);
      stream.off("close", settle);
      if (err) reject(err);
      else resolve();
    };
    stream.once("drain", settle);
    stream.once("error", settle);
    stream.once("close", settle);
  });
}
