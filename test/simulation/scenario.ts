import { compileDetection, type DetectionSettings } from "../../common/detection.ts";
import type { Settings } from "../../server/settings.ts";
import type { Chance } from "./chance.ts";

/** The world that a seed draws: how much of everything there is, and how it is set. What goes wrong is drawn apart. */
export interface Scenario {
  readonly seed: number;
  readonly replicas: number;
  readonly dispatchers: number;
  readonly servers: number;
  readonly conferences: number;
  readonly windowMs: number;
  readonly tickMs: number;
  readonly ttlMs: number;
  readonly settings: Partial<Settings>;
  readonly detection: DetectionSettings;
  /** Until when faults begin and conferences are booked. */
  readonly stormUntilMs: number;
  /** When all faults are mended, whatever they were to last. */
  readonly healMs: number;
  /** When the world has come to rest and is looked at for the last time. */
  readonly endMs: number;
}

/** Everything is registered by then, and the graces of replicas and observers are over. */
export const CALM_MS = 3_000;

const STORM_MS = { least: 3_500, most: 7_500 } as const;

/** By then the last fault has been noticed, and what it has stirred up has been moved or ended. */
const REST_MS = 8_000;
/** By then who was dampened once is back, too, and what found no room has been tried again. Costs as much as the rest. */
const LONG_REST_MS = 24_000;
const LONG_RESTS = 0.06;

export function drawScenario(seed: number, chance: Chance): Scenario {
  const replicas = chance.pick([1, 1, 2, 2, 2, 3]);
  const stormUntilMs = CALM_MS + chance.between(STORM_MS.least, STORM_MS.most);
  const healMs = stormUntilMs + chance.between(500, 3_000);
  // Half of the times of the profile for a site: what takes half as long shows as much in half of the run. As there, no
  // server is called failed before every other has been probed once, or the brake would not see them fail together.
  const detection = compileDetection({
    probeIntervalMs: chance.pick([600, 800, 1_000]),
    probeTimeoutMs: 400,
    graceMs: 1_200,
    brakeFraction: chance.pick([1 / 3, 1 / 2]),
  });
  return {
    seed,
    replicas,
    dispatchers: chance.pick([2, 3, 3, 3, 4]),
    servers: chance.whole(3, 5),
    conferences: chance.whole(4, 14),
    windowMs: chance.pick([1_000, 5_000]),
    tickMs: chance.pick([1_000, 2_000, 3_000]),
    ttlMs: chance.pick([2_000, 3_000]),
    settings: {
      graceMs: 1_500,
      takeoverMs: 1_500,
      replicaLagMs: replicas > 1 ? 200 : 0,
      moveBudget: chance.pick([2, 500]),
      detection,
    },
    detection,
    stormUntilMs,
    healMs,
    endMs: healMs + (chance.happens(LONG_RESTS) ? LONG_REST_MS : REST_MS),
  };
}
