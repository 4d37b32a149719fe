/** What the command's exit code says. Shown in `convoke --help`; scripts rely on it. */
export const ExitCode = {
  /** All of it was done. */
  ok: 0,
  /** The call failed, or what was asked for does not exist. */
  failed: 1,
  /** The command line, or what was given with it, is wrong; nothing was done. */
  usage: 2,
  /** Some of it was done; the error lines say what was not. */
  partial: 3,
  /** The control plane, or its store, cannot be reached; the same command may succeed later. */
  unavailable: 4,
  /** Ended by Ctrl-C (SIGINT). */
  interrupted: 130,
  /** Ended by SIGTERM. */
  terminated: 143,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
