import { ExitCode } from "./exit-code.ts";

export interface CliErrorOptions {
  /** What the person can do about it; printed on a line of its own. */
  readonly hint?: string;
  /** Default: `ExitCode.failed`. */
  readonly exitCode?: ExitCode;
  /** More lines below the message, such as the violations of a request or the lines of a broken file. */
  readonly details?: readonly string[];
  readonly cause?: unknown;
}

/** Ends a command: printed as `error: <message>`, without a stack trace, and turned into the exit code. */
export class CliError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;
  readonly details: readonly string[];

  constructor(message: string, options: CliErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "CliError";
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? ExitCode.failed;
    this.details = options.details ?? [];
  }
}

/** The reason with which a context's signal aborts. */
export class InterruptedError extends Error {
  /** The signal the process was sent. */
  readonly signalName: "SIGINT" | "SIGTERM";

  constructor(signalName: "SIGINT" | "SIGTERM") {
    super(`interrupted by ${signalName}`);
    this.name = "InterruptedError";
    this.signalName = signalName;
  }
}
