import { InvalidArgumentError, Option } from "commander";
import type { DetectionSettings } from "../../common/detection.ts";
import { integerParser, parseDuration } from "./options.ts";

/** A setting of failure detection on the command line. */
interface DetectionFlag {
  readonly key: Exclude<keyof DetectionSettings, "profile">;
  /** Without dashes in front. */
  readonly flag: string;
  readonly value: "duration" | "n" | "part";
  readonly text: string;
}

/**
 * A flag for each setting. Listed here because loading the settings takes longer than printing `--help`; what a value may
 * be is checked by `compileDetection`.
 */
export const DETECTION_FLAGS: readonly DetectionFlag[] = [
  ["probeIntervalMs", "probe-interval", "duration", "how often an observer probes a server that answers"],
  ["probeTimeoutMs", "probe-timeout", "duration", "how long a probe may take"],
  ["probeRetryMs", "probe-retry", "duration", "how soon a failed probe is followed by the next"],
  ["refusals", "refusals", "n", "refusals in a row that make an observer call a server failed"],
  ["timeouts", "timeouts", "n", "failures in a row, timeouts among them, that do"],
  ["successes", "successes", "n", "answers in a row that make an observer call it well again"],
  ["observers", "observers", "n", "how many dispatchers observe each server"],
  ["settleMs", "settle", "duration", "how long servers that fail together are waited for"],
  // `--grace` is the control plane's grace of dispatches.
  ["graceMs", "detection-grace", "duration", "how long whoever has just begun calls nothing dead"],
  ["brakeFraction", "brake-fraction", "part", "the part of the servers that may fail within the window"],
  ["brakeWindowMs", "brake-window", "duration", "the window of the brake"],
].map(([key, flag, value, text]) => ({ key, flag, value, text }) as DetectionFlag);

const PARSERS = {
  duration: parseDuration,
  n: integerParser({ min: 1, max: 1_000_000 }),
  part: parsePart,
} as const;

/** `--detection lan|wan` and a flag for each setting; read them with `detectionOf`. */
export function detectionOptions(): Option[] {
  return [
    new Option("--detection <profile>", "how failures of conference servers are found out").choices([
      "lan",
      "wan",
    ]),
    ...DETECTION_FLAGS.map(({ flag, value, text }) =>
      new Option(`--${flag} <${value}>`, text).argParser(PARSERS[value]),
    ),
  ];
}

/** The settings among a command's options; undefined when there are none. */
export function detectionOf(
  options: Readonly<Record<string, unknown>>,
): Partial<DetectionSettings> | undefined {
  const given: Record<string, unknown> = {};
  if (options.detection !== undefined) given.profile = options.detection;
  for (const { key, flag } of DETECTION_FLAGS) {
    const value = options[new Option(`--${flag} <value>`).attributeName()];
    if (value !== undefined) given[key] = value;
  }
  return Object.keys(given).length > 0 ? given : undefined;
}

/** Gives what `compile` gives; what it refuses of the settings is named as it was written on the command line. */
export function namingFlags<T>(compile: () => T): T {
  try {
    return compile();
  } catch (err) {
    if (!(err instanceof TypeError)) throw err;
    const at = DETECTION_FLAGS.find(({ key }) => err.message.startsWith(`${key} `));
    if (!at) throw err;
    const rule = err.message.slice(at.key.length);
    throw new TypeError(`--${at.flag}${rule}${at.value === "duration" ? " ms" : ""}`, { cause: err });
  }
}

/** A part such as `0.25`, `25%` or `1/3`. */
function parsePart(text: string): number {
  const { number, percent, divisor } =
    /^(?<number>\d+(?:\.\d+)?)(?:(?<percent>%)|\/(?<divisor>\d+(?:\.\d+)?))?$/.exec(text)?.groups ?? {};
  const part = number === undefined ? Number.NaN : Number(number) / (percent ? 100 : Number(divisor ?? 1));
  if (!(part > 0 && part <= 1))
    throw new InvalidArgumentError("Write a part above 0 and at most 1, such as 0.25, 25% or 1/3.");
  return part;
}
