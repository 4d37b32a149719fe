import {
  brakeAllowance,
  type DetectionSettings,
  isolationMs,
  PROBE_JITTER,
  refusalDetectionMs,
  timeoutDetectionMs,
} from "./detection.ts";

/**
 * A time that follows from the detection settings. The documentation and `convoke config explain` print the text, and a
 * test evaluates it against the function, so none of the three can drift.
 */
export interface DetectionFormula {
  readonly name: DetectionTime;
  /** What the time is, as a line's beginning. */
  readonly title: string;
  /** The formula, in names of settings as they are on the command line: `probe-interval` for `probeIntervalMs`. */
  readonly text: string;
  readonly valueMs: (settings: DetectionSettings) => number;
}

export type DetectionTime =
  | "refusalTypical"
  | "refusalLongest"
  | "suspectLongest"
  | "silenceLongest"
  | "isolation";

const FIRST_PROBE = `probe-interval × ${1 + PROBE_JITTER}`;
const REFUSED = "(refusals − 1) × probe-retry + settle";
const SILENT = `${FIRST_PROBE} + timeouts × probe-timeout + (timeouts − 1) × probe-retry + settle`;

/** In the order in which people want to know. Each leaves out the way of the reports through the store: milliseconds. */
export const DETECTION_FORMULAS: readonly DetectionFormula[] = [
  {
    name: "refusalTypical",
    title: "a server that refuses connections is DOWN, typically, after",
    text: REFUSED,
    // The broken connection is probed at once.
    valueMs: ({ refusals, probeRetryMs, settleMs }) => (refusals - 1) * probeRetryMs + settleMs,
  },
  {
    name: "refusalLongest",
    title: "a server that refuses connections is DOWN, at the latest, after",
    text: `${FIRST_PROBE} + ${REFUSED}`,
    valueMs: refusalDetectionMs,
  },
  {
    name: "suspectLongest",
    title: "a silent server is SUSPECT and gets no new conferences, at the latest, after",
    text: `${FIRST_PROBE} + probe-timeout`,
    valueMs: ({ probeIntervalMs, probeTimeoutMs }) => probeIntervalMs * (1 + PROBE_JITTER) + probeTimeoutMs,
  },
  {
    name: "silenceLongest",
    title: "a silent server is DOWN, at the latest, after",
    text: SILENT,
    valueMs: timeoutDetectionMs,
  },
  {
    name: "isolation",
    title: "an agent that hears nobody stops its conferences after",
    text: `2 × (${SILENT})`,
    valueMs: isolationMs,
  },
];

/** How many of `servers` may fail within `brake-window` before the brake engages; see `brakeAllowance`. */
export const BRAKE_FORMULA = {
  text: "max(1, floor(servers × brake-fraction)), 0 of a single server",
  value: brakeAllowance,
};

/**
 * How long a server stays DOWN that was declared so for the first, second and any further time without as long as
 * `DAMPENING_RESET_MS` UP in between.
 */
export const DAMPENING_MS: readonly number[] = [10_000, 60_000, 5 * 60_000];
export const DAMPENING_RESET_MS = 5 * 60_000;

/** The formula with the settings put in, as `show` writes them. */
export function substituteSettings(
  text: string,
  settings: DetectionSettings,
  show: (key: keyof DetectionSettings) => string,
): string {
  const keys = Object.keys(settings) as (keyof DetectionSettings)[];
  const byName = new Map(keys.map((key) => [wordOf(key), key]));
  return text.replaceAll(/[a-z]+(?:-[a-z]+)*/g, (word) => {
    const key = byName.get(word);
    return key === undefined ? word : show(key);
  });
}

function wordOf(key: string): string {
  return key.replace(/Ms$/, "").replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
