import { InvalidArgumentError, Option } from "commander";
import { parseAddress } from "../../common/address.ts";
import type { Clock } from "../../common/clock.ts";
import type { LogLevel } from "../../common/logging.ts";
import { parseEndpoints } from "../transport/endpoints.ts";

/** Listed here again because loading the logger takes longer than printing `--help`. */
const LOG_LEVELS = [
  "trace",
  "debug",
  "info",
  "warn",
  "error",
  "fatal",
  "silent",
] as const satisfies readonly LogLevel[];

/** How results are printed. */
export const OUTPUT_FORMATS = ["table", "json", "yaml"] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** `--endpoint host:port,…`; read it with `endpointOf`, which knows the environment and the default. */
export function endpointOption(): Option {
  return new Option(
    "--endpoint <host:port,...>",
    "gRPC address of the control plane, of each replica with commas between (env: CONVOKE_ENDPOINT, default: 127.0.0.1:7400)",
  ).argParser(parseEndpointList);
}

/** `-o, --output table|json|yaml`, as `output`. */
export function outputOption(): Option {
  return new Option("-o, --output <format>", "how to print the result")
    .choices(OUTPUT_FORMATS)
    .default("table");
}

/** How things that are read are printed: a `wide` table has more columns. */
export type GetFormat = OutputFormat | "wide";

/** `-o, --output table|wide|json|yaml`, as `output`. */
export function getOutputOption(): Option {
  const [table, ...others] = OUTPUT_FORMATS;
  return new Option("-o, --output <format>", "how to print the result; wide is a table with more columns")
    .choices([table, "wide", ...others])
    .default("table");
}

/** `--log-level`, as `logLevel`. */
export function logLevelOption(fallback: LogLevel = "info"): Option {
  return new Option("--log-level <level>", "least severe level to log, on standard error")
    .choices(LOG_LEVELS)
    .default(fallback);
}

/** host:port of one or several replicas, with commas between, as it was written. */
function parseEndpointList(text: string): string {
  try {
    parseEndpoints(text);
  } catch {
    throw new InvalidArgumentError(
      "Write host:port, such as 127.0.0.1:7400, or several with commas between.",
    );
  }
  return text;
}

/** host:port, as it was written. */
export function parseHostPort(text: string): string {
  try {
    parseAddress(text);
  } catch {
    throw new InvalidArgumentError("Write host:port, such as 127.0.0.1:7400 or [::1]:7400.");
  }
  return text;
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const DURATION_RULE = "Write a number and a unit (ms, s, m, h, d), such as 500ms, 1s, 10m or 1h30m.";

/** A duration such as `500ms`, `1.5s`, `10m` or `1h30m`, in milliseconds; never negative. */
export function parseDuration(text: string): number {
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) throw new InvalidArgumentError(DURATION_RULE);
  let totalMs = 0;
  for (const [, amount, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|s|m|h|d)/g))
    totalMs += Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS];
  return totalMs;
}

/** A parser of durations from `minMs` to `maxMs`. */
export function durationParser({ minMs, maxMs }: { minMs: number; maxMs: number }): (text: string) => number {
  return (text) => {
    const ms = parseDuration(text);
    if (ms < minMs || ms > maxMs)
      throw new InvalidArgumentError(
        `Write a duration from ${formatDuration(minMs)} to ${formatDuration(maxMs)}.`,
      );
    return ms;
  };
}

/** A duration as `parseDuration` reads it, exact to the millisecond: `1h30m`, `1s500ms`, `0s`. */
export function formatDuration(ms: number): string {
  let leftMs = Math.round(ms);
  let text = "";
  for (const unit of ["d", "h", "m", "s", "ms"] as const) {
    const count = Math.floor(leftMs / UNIT_MS[unit]);
    if (count > 0) text += `${count}${unit}`;
    leftMs -= count * UNIT_MS[unit];
  }
  return text || "0s";
}

const TIME_PATTERN = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/i;
const TIME_RULE =
  "Write an RFC 3339 time with its zone, such as 2030-01-31T09:00:00Z or 2030-01-31T10:00:00+01:00, or a time from now, such as +10m, -1h or now.";

/** A parser of RFC 3339 times, and of times from now (`now`, `+10m`, `-1h`), to milliseconds since 1970. */
export function timeParser(clock: Clock): (text: string) => number {
  return (text) => {
    if (text === "now") return clock.wallMs();
    if (/^[+-]\d/.test(text)) {
      const offsetMs = parseDuration(text.slice(1));
      return clock.wallMs() + (text.startsWith("-") ? -offsetMs : offsetMs);
    }
    const ms = TIME_PATTERN.test(text) ? Date.parse(text) : Number.NaN;
    if (Number.isNaN(ms) || !isCalendarDay(text)) throw new InvalidArgumentError(TIME_RULE);
    return ms;
  };
}

/** Whether the day exists: Date.parse takes February 30 for March 2. */
function isCalendarDay(text: string): boolean {
  const [year = 0, month = 0, day = 0] = text.slice(0, 10).split("-").map(Number);
  return day >= 1 && day <= new Date(Date.UTC(year, month, 0)).getUTCDate();
}

/** A parser of whole numbers from `min` to `max`. */
export function integerParser({ min, max }: { min: number; max: number }): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[+-]?\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`Write a whole number from ${min} to ${max}.`);
    return value;
  };
}

/** Collects `--label key=value`, which may be repeated, into one record. */
export function collectLabel(
  text: string,
  previous: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Write key=value, such as zone=a.");
  const key = text.slice(0, at);
  if (Object.hasOwn(previous, key)) throw new InvalidArgumentError(`The key ${key} is given twice.`);
  return { ...previous, [key]: text.slice(at + 1) };
}

/** Collects an option that may be repeated, or given once with commas between, into a list without repetitions. */
export function collectList(text: string, previous: readonly string[] = []): string[] {
  const items = text.split(",").map((item) => item.trim());
  if (items.some((item) => item === ""))
    throw new InvalidArgumentError("Write values with commas between, such as a,b.");
  return [...new Set([...previous, ...items])];
}
