import { create } from "@bufbuild/protobuf";
import { type Detection, DetectionSchema } from "../proto/gen/convoke/v1/detection_pb.js";
import { durationFromMs, durationMs } from "./time.ts";

/**
 * How failures of conference servers are found out. The control plane's settings hold for everybody: it hands them out to
 * dispatchers, which observe, and to agents, which derive from them how long they may go on unheard.
 */
export interface DetectionSettings {
  /** The profile that the settings began with. */
  readonly profile: DetectionProfile;
  /** How often an observer probes a server that answers. */
  readonly probeIntervalMs: number;
  /** How long a probe may take. */
  readonly probeTimeoutMs: number;
  /** How soon a failed probe is followed by the next. */
  readonly probeRetryMs: number;
  /** How many explicit failures in a row make an observer call the server failed. */
  readonly refusals: number;
  /** How many failures in a row, timeouts among them, make an observer call the server failed. */
  readonly timeouts: number;
  /** How many answers in a row make an observer call the server well again. */
  readonly successes: number;
  /** How many dispatchers observe each server; all, when there are fewer. */
  readonly observers: number;
  /** How long servers that fail at the same time are waited for before one is declared DOWN. */
  readonly settleMs: number;
  /** How long a new replica declares nothing DOWN, and a new observer calls nothing failed that it has never heard. */
  readonly graceMs: number;
  /** The part of the servers that may fail within the window; more engage the brake. Above 0, at most 1. */
  readonly brakeFraction: number;
  /** The window of the brake. */
  readonly brakeWindowMs: number;
}

export const DETECTION_PROFILES = {
  lan: {
    // A probe costs tens of microseconds at either end, so once a second is cheap for thousands of servers.
    probeIntervalMs: 1_000,
    // A hundred times a round trip within a site, and above the pauses of a busy process.
    probeTimeoutMs: 750,
    probeRetryMs: 100,
    // One refusal may be a listener's full backlog.
    refusals: 2,
    // Together over two seconds of silence: a lost packet is sent again several times within that.
    timeouts: 3,
    successes: 2,
    // The least with which one observer can be wrong, or gone, and the others still have a majority.
    observers: 3,
    // Observers of servers that die together report within a probe and its retry.
    settleMs: 150,
    // Two rounds of probes.
    graceMs: 2_000,
    // Racks and zones come in thirds.
    brakeFraction: 1 / 3,
    brakeWindowMs: 60_000,
  },
  wan: {
    probeIntervalMs: 3_000,
    // Ten round trips around the world.
    probeTimeoutMs: 2_500,
    probeRetryMs: 500,
    refusals: 2,
    // Together ten seconds: routes converge within that.
    timeouts: 4,
    successes: 3,
    observers: 3,
    settleMs: 1_000,
    graceMs: 6_000,
    brakeFraction: 1 / 3,
    brakeWindowMs: 180_000,
  },
} as const satisfies Record<string, Omit<DetectionSettings, "profile">>;

export type DetectionProfile = keyof typeof DETECTION_PROFILES;

export const DEFAULT_DETECTION_PROFILE: DetectionProfile = "lan";

/** Observers that began together do not probe together: an interval takes up to this part more or less. */
export const PROBE_JITTER = 0.1;

/** What each setting may be. */
export const DETECTION_RANGES: Readonly<
  Record<Exclude<keyof DetectionSettings, "profile">, { readonly min: number; readonly max: number }>
> = {
  probeIntervalMs: { min: 100, max: 60_000 },
  probeTimeoutMs: { min: 50, max: 30_000 },
  probeRetryMs: { min: 10, max: 30_000 },
  refusals: { min: 1, max: 100 },
  timeouts: { min: 1, max: 100 },
  successes: { min: 1, max: 100 },
  observers: { min: 1, max: 100 },
  settleMs: { min: 0, max: 60_000 },
  graceMs: { min: 0, max: 600_000 },
  brakeFraction: { min: 0.001, max: 1 },
  brakeWindowMs: { min: 1_000, max: 3_600_000 },
};

const WHOLE: ReadonlySet<string> = new Set(["refusals", "timeouts", "successes", "observers"]);

/**
 * A profile with single settings of one's own.
 * @throws {TypeError} that names the setting and what it may be
 */
export function compileDetection(given: Partial<DetectionSettings> = {}): DetectionSettings {
  const { profile = DEFAULT_DETECTION_PROFILE, ...own } = given;
  if (!Object.hasOwn(DETECTION_PROFILES, profile)) {
    const known = Object.keys(DETECTION_PROFILES).join(", ");
    throw new TypeError(`detection profile must be one of ${known}, not ${JSON.stringify(profile)}`);
  }
  for (const [name, value] of Object.entries(own)) {
    const range = Object.hasOwn(DETECTION_RANGES, name)
      ? DETECTION_RANGES[name as keyof typeof DETECTION_RANGES]
      : undefined;
    if (!range) throw new TypeError(`unknown detection setting ${JSON.stringify(name)}`);
    if (!(value >= range.min && value <= range.max) || (WHOLE.has(name) && !Number.isInteger(value)))
      throw new TypeError(`${name} must be from ${range.min} to ${range.max}, not ${value}`);
  }
  return Object.freeze({ profile, ...DETECTION_PROFILES[profile], ...own });
}

/**
 * The longest that a refusal can take to be noticed, from the death of a server's process to the verdict. A broken
 * connection is probed at once, so it is mostly far less.
 */
export function refusalDetectionMs(settings: DetectionSettings): number {
  const { probeIntervalMs, probeRetryMs, refusals, settleMs } = settings;
  return probeIntervalMs * (1 + PROBE_JITTER) + (refusals - 1) * probeRetryMs + settleMs;
}

/** The longest that silence can take to be noticed, from a server's last answer to the verdict. */
export function timeoutDetectionMs(settings: DetectionSettings): number {
  const { probeIntervalMs, probeTimeoutMs, probeRetryMs, timeouts, settleMs } = settings;
  return (
    probeIntervalMs * (1 + PROBE_JITTER) +
    timeouts * probeTimeoutMs +
    (timeouts - 1) * probeRetryMs +
    settleMs
  );
}

/** The longest that an observer takes to notice that a server answers again which it has called failed. */
export function recoveryDetectionMs(settings: DetectionSettings): number {
  const { probeIntervalMs, probeTimeoutMs, probeRetryMs, successes } = settings;
  return probeIntervalMs * (1 + PROBE_JITTER) + probeTimeoutMs + (successes - 1) * probeRetryMs;
}

/**
 * How long an agent goes on that hears neither an observer nor the control plane: twice what the observers need to call
 * it failed. By then it has been moved, or something is wrong with more than this server.
 */
export function isolationMs(settings: DetectionSettings): number {
  return 2 * timeoutDetectionMs(settings);
}

/** How many of so many servers may fail at a time before the brake engages. One alone has nowhere to go. */
export function brakeAllowance(
  { brakeFraction }: Pick<DetectionSettings, "brakeFraction">,
  servers: number,
): number {
  return servers <= 1 ? 0 : Math.max(1, Math.floor(servers * brakeFraction + 1e-9));
}

export function toDetection(settings: DetectionSettings): Detection {
  return create(DetectionSchema, {
    profile: settings.profile,
    probeInterval: durationFromMs(settings.probeIntervalMs),
    probeTimeout: durationFromMs(settings.probeTimeoutMs),
    probeRetry: durationFromMs(settings.probeRetryMs),
    refusals: settings.refusals,
    timeouts: settings.timeouts,
    successes: settings.successes,
    observers: settings.observers,
    settle: durationFromMs(settings.settleMs),
    grace: durationFromMs(settings.graceMs),
    brakeFraction: settings.brakeFraction,
    brakeWindow: durationFromMs(settings.brakeWindowMs),
    isolation: durationFromMs(isolationMs(settings)),
  });
}

/** The settings in a message of the control plane; what it does not say is as in its profile. */
export function readDetection(message: Detection | undefined): DetectionSettings {
  if (!message) return compileDetection();
  const { probeInterval, probeTimeout, probeRetry, settle, grace, brakeWindow } = message;
  const profile = Object.hasOwn(DETECTION_PROFILES, message.profile)
    ? (message.profile as DetectionProfile)
    : DEFAULT_DETECTION_PROFILE;
  return compileDetection({
    profile,
    ...(probeInterval ? { probeIntervalMs: durationMs(probeInterval) } : {}),
    ...(probeTimeout ? { probeTimeoutMs: durationMs(probeTimeout) } : {}),
    ...(probeRetry ? { probeRetryMs: durationMs(probeRetry) } : {}),
    ...(message.refusals ? { refusals: message.refusals } : {}),
    ...(message.timeouts ? { timeouts: message.timeouts } : {}),
    ...(message.successes ? { successes: message.successes } : {}),
    ...(message.observers ? { observers: message.observers } : {}),
    ...(settle ? { settleMs: durationMs(settle) } : {}),
    ...(grace ? { graceMs: durationMs(grace) } : {}),
    ...(message.brakeFraction ? { brakeFraction: message.brakeFraction } : {}),
    ...(brakeWindow ? { brakeWindowMs: durationMs(brakeWindow) } : {}),
  });
}
