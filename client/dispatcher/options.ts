import { parseAddress } from "../../common/address.ts";
import { isId } from "../../common/rpc/validator.ts";
import { DEFAULT_ENDPOINT } from "../transport/client.ts";
import { type Endpoints, parseEndpoints } from "../transport/endpoints.ts";

/** What a person sets of a dispatcher. */
export interface DispatcherOptions {
  /** The dispatcher's ID: 1 to 63 of `a-z 0-9 - . _`. No two processes may use the same. */
  readonly id: string;
  /** host:port of the control plane, of several replicas with commas between or as a list. Default 127.0.0.1:7400. */
  readonly endpoint?: Endpoints;
  /** How long before its start a conference is placed, 0 to 24 h. Default 10 min. */
  readonly windowMs?: number;
  /** How often the share is asked for, 100 ms to 60 s. Default 1 s. */
  readonly tickMs?: number;
  /** How long the registration outlives the dispatcher, 1 s to 10 min. Default 5 s. */
  readonly ttlMs?: number;
  /** Size of the share relative to other dispatchers, 1 to 1000. Default 1. */
  readonly weight?: number;
  /** Free labels for operators, at most 64. Default none. */
  readonly labels?: Readonly<Record<string, string>>;
  /** How many conferences are started a second at most, 0.1 to 1,000,000. Default no limit. */
  readonly startRate?: number;
  /** host:port where metrics are served over HTTP. Default: nowhere. */
  readonly metrics?: string;
  /** How long a stop waits for what is being started, 0 to 60 s. Default 5 s. */
  readonly stopGraceMs?: number;
}

/** The same with every value set. */
export type CompiledDispatcherOptions = Readonly<
  Required<Omit<DispatcherOptions, "endpoint" | "metrics">>
> & {
  /** host:port; undefined for nowhere. */
  readonly metrics: string | undefined;
  /** host:port of each replica. */
  readonly endpoint: readonly string[];
};

/** The scheduling window that the contract has as its default. */
export const DEFAULT_WINDOW_MS = 600_000;

/** Soon enough that a change of the registry or a void dispatch is acted on while people wait. */
export const DEFAULT_TICK_MS = 1_000;

/** Shorter, and a short outage of the store would void claims. */
export const DEFAULT_TTL_MS = 5_000;

/** What an agent call and a commit may take in the worst case. */
export const DEFAULT_STOP_GRACE_MS = 5_000;

const RANGES = {
  windowMs: { min: 0, max: 86_400_000, fallback: DEFAULT_WINDOW_MS },
  tickMs: { min: 100, max: 60_000, fallback: DEFAULT_TICK_MS },
  ttlMs: { min: 1_000, max: 600_000, fallback: DEFAULT_TTL_MS },
  weight: { min: 1, max: 1_000, fallback: 1, whole: true },
  startRate: { min: 0.1, max: 1_000_000, fallback: Number.POSITIVE_INFINITY },
  stopGraceMs: { min: 0, max: 60_000, fallback: DEFAULT_STOP_GRACE_MS },
};

const KEYS: ReadonlySet<string> = new Set(["id", "endpoint", "labels", "metrics", ...Object.keys(RANGES)]);

/**
 * Checks the options once and fills in what is not set.
 * @throws {TypeError} that names the option and what it may be; for keys it does not know, too
 */
export function compileDispatcherOptions(options: DispatcherOptions): CompiledDispatcherOptions {
  for (const key of Object.keys(options)) {
    if (!KEYS.has(key)) throw new TypeError(`unknown dispatcher option ${JSON.stringify(key)}`);
  }
  const { id, endpoint = DEFAULT_ENDPOINT, labels = {}, metrics } = options;
  if (metrics !== undefined) parseAddress(metrics);
  if (!isId(id)) {
    throw new TypeError(
      `not a dispatcher ID: ${JSON.stringify(id)}; use 1 to 63 of a-z 0-9 - . _, beginning and ending with a letter or digit`,
    );
  }
  const number = (key: keyof typeof RANGES) => {
    const { min, max, fallback } = RANGES[key];
    const value = options[key];
    if (value === undefined) return fallback;
    if (!(value >= min && value <= max) || ("whole" in RANGES[key] && !Number.isInteger(value))) {
      throw new TypeError(`${key} must be from ${min} to ${max}, not ${value}`);
    }
    return value;
  };
  return Object.freeze({
    id,
    endpoint: Object.freeze(parseEndpoints(endpoint)),
    labels: Object.freeze({ ...labels }),
    metrics,
    windowMs: number("windowMs"),
    tickMs: number("tickMs"),
    ttlMs: number("ttlMs"),
    weight: number("weight"),
    startRate: number("startRate"),
    stopGraceMs: number("stopGraceMs"),
  });
}
