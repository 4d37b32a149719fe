/** Something in an input that could not be read, and where. */
export interface ImportProblem {
  /** The file's name as given; `-` for standard input. */
  readonly file: string;
  /** The line it is on, from 1. */
  readonly line: number;
  /** What is wrong, for people. */
  readonly reason: string;
}

/** `file:line: reason`, as compilers print it. */
export function formatProblem({ file, line, reason }: ImportProblem): string {
  return `${file}:${line}: ${reason}`;
}

/** Thrown while one event or line is read; becomes a problem of the file, and the reading goes on behind it. */
export class InputError extends Error {
  readonly line: number;

  constructor(line: number, reason: string) {
    super(reason);
    this.name = "InputError";
    this.line = line;
  }
}
