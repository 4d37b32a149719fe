import type { Writable } from "node:stream";
import type { Clock } from "../../common/clock.ts";
import { addCounts, type ImportCounts, NO_COUNTS } from "./upsert.ts";

/** Shows how far an import is. */
export interface Progress extends Disposable {
  add(change: Partial<ImportCounts>): void;
  /** Clears the terminal's line. */
  end(): void;
}

export interface ProgressOptions {
  readonly stream: Writable;
  readonly clock: Clock;
  /** A bar that is drawn over and over; else a line from time to time. */
  readonly isTerminal: boolean;
  /** How many conferences there are; undefined when that is not known yet. */
  readonly total: number | undefined;
}

/** Often enough to look alive, seldom enough to cost nothing. */
const REDRAW_MS = 100;
const LINE_MS = 2_000;
const BAR_WIDTH = 30;

export function createProgress({ stream, clock, isTerminal, total }: ProgressOptions): Progress {
  const intervalMs = isTerminal ? REDRAW_MS : LINE_MS;
  let counts = NO_COUNTS;
  let shownMs = clock.monotonicMs();
  let drawn = false;
  const show = () => {
    shownMs = clock.monotonicMs();
    const line = progressLine(counts, total, isTerminal);
    // Carriage return and "erase line" draw over what was there.
    stream.write(isTerminal ? `\r\x1b[K${line}` : `${line}\n`);
    drawn = isTerminal;
  };
  const end = () => {
    if (drawn) stream.write("\r\x1b[K");
    drawn = false;
  };
  return {
    add(change) {
      counts = addCounts(counts, change);
      if (clock.monotonicMs() - shownMs >= intervalMs) show();
    },
    end,
    [Symbol.dispose]: end,
  };
}

function progressLine(counts: ImportCounts, total: number | undefined, withBar: boolean): string {
  const done = counts.created + counts.updated + counts.unchanged + counts.rejected;
  const of = total === undefined ? `${done}` : `${done}/${total}`;
  const text = `${of}  ${countsText(counts)}`;
  if (!withBar || !total) return text;
  const filled = Math.min(BAR_WIDTH, Math.floor((done / total) * BAR_WIDTH));
  return `[${"#".repeat(filled)}${".".repeat(BAR_WIDTH - filled)}] ${text}`;
}

/** `3 created, 1 updated, 0 unchanged, 0 cancelled`, and those rejected when there are any. */
export function countsText({ created, updated, unchanged, cancelled, rejected }: ImportCounts): string {
  const text = `${created} created, ${updated} updated, ${unchanged} unchanged, ${cancelled} cancelled`;
  return rejected === 0 ? text : `${text}, ${rejected} rejected`;
}
