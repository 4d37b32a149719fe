import { startOfDay } from "../../import/when.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { ExitCode } from "../exit-code.ts";
import { timeParser } from "../options.ts";

/** How far ahead a calendar is imported unless told otherwise. */
const DEFAULT_SPAN_MS = 30 * 86_400_000;

export interface RangeOptions {
  readonly from?: string;
  readonly until?: string;
  readonly timezone?: string;
}

/**
 * The range of `--from` and `--until`: RFC 3339 times, times from now, or days in `--timezone`.
 * @throws {CliError} when one of them cannot be understood, or nothing lies between them
 */
export function rangeOf(context: Pick<CliContext, "clock">, options: RangeOptions) {
  checkTimezone(options.timezone);
  const parseTime = timeParser(context.clock);
  const parse = (option: string, text: string): number => {
    try {
      return startOfDay(text, options.timezone) ?? parseTime(text);
    } catch (err) {
      throw new CliError(`${option}: ${JSON.stringify(text)} is no time`, {
        exitCode: ExitCode.usage,
        hint: "write 2030-01-31, an RFC 3339 time such as 2030-01-31T09:00:00Z, or a time from now such as +7d",
        cause: err,
      });
    }
  };
  const fromMs = options.from === undefined ? context.clock.wallMs() : parse("--from", options.from);
  const untilMs = options.until === undefined ? fromMs + DEFAULT_SPAN_MS : parse("--until", options.until);
  if (untilMs <= fromMs)
    throw new CliError("--until must be after --from", {
      exitCode: ExitCode.usage,
      details: [`--from:  ${new Date(fromMs).toISOString()}`, `--until: ${new Date(untilMs).toISOString()}`],
    });
  return { fromMs, untilMs };
}

function checkTimezone(timezone: string | undefined) {
  try {
    startOfDay("1970-01-01", timezone);
  } catch (err) {
    throw new CliError(`--timezone: unknown time zone ${JSON.stringify(timezone)}`, {
      exitCode: ExitCode.usage,
      hint: "write a name such as Europe/Berlin or America/New_York",
      cause: err,
    });
  }
}
