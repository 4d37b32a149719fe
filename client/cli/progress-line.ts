import type { Writable } from "node:stream";
import type { Clock } from "../../common/clock.ts";

/** Shows how far something is: a bar that is drawn over and over on a terminal, else a line from time to time. */
export interface ProgressLine extends Disposable {
  /** @param text what is behind the bar */
  show(done: number, of: number, text: string): void;
  /** Clears the terminal's line, so that something else can be written. */
  clear(): void;
}

/** Seldom enough to cost nothing, and for a log not to fill. */
const LINE_MS = 5_000;
const BAR_WIDTH = 30;

export function createProgressLine({
  stream,
  clock,
  isTerminal,
}: {
  readonly stream: Writable;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly isTerminal: boolean;
}): ProgressLine {
  let shown = "";
  let shownMs = Number.NEGATIVE_INFINITY;
  let drawn = false;
  const clear = () => {
    // Carriage return and "erase line" draw over what was there.
    if (drawn) stream.write("\r\x1b[K");
    drawn = false;
  };
  return {
    show(done, of, text) {
      const line = `${done}/${of}  ${text}`;
      if (isTerminal) {
        const filled = of > 0 ? Math.min(BAR_WIDTH, Math.floor((done / of) * BAR_WIDTH)) : BAR_WIDTH;
        stream.write(`\r\x1b[K[${"#".repeat(filled)}${".".repeat(BAR_WIDTH - filled)}] ${line}`);
        drawn = true;
      } else if (line !== shown && clock.monotonicMs() - shownMs >= LINE_MS) {
        stream.write(`${line}\n`);
        shown = line;
        shownMs = clock.monotonicMs();
      }
    },
    clear,
    [Symbol.dispose]: clear,
  };
}
