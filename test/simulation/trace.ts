import pino, { type Logger } from "pino";
import { describeError } from "../../common/logging.ts";

/** What happened in a run, in order. Nothing is kept unless somebody will read it: telling costs more than happening. */
export interface Trace {
  readonly lines: readonly string[];
  /** @param tell called only when the trace is kept */
  event(who: string, tell: () => string): void;
  /** The log of a process, which goes into the trace. */
  logger(name: string): Logger;
}

const SILENT = pino({ level: "silent" });

/** @param nowMs the virtual time of an event; the trace is kept when given */
export function createTrace(nowMs?: () => number): Trace {
  const lines: string[] = [];
  if (!nowMs) return { lines, event() {}, logger: () => SILENT };
  const add = (who: string, text: string) =>
    lines.push(`${nowMs().toFixed(1).padStart(9)} ${who.padEnd(8)} ${text}`);
  return {
    lines,
    event: (who, tell) => void add(who, tell()),
    logger: (name) =>
      pino(
        { level: "debug", base: null, timestamp: false, serializers: { err: describeError } },
        {
          write(line: string) {
            const { level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
            if (msg === "call served") return;
            const mark = Number(level) >= 40 ? "! " : "";
            add(name, `${mark}${msg} ${JSON.stringify(fields)}`);
          },
        },
      ),
  };
}
