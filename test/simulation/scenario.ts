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
export const CALM_MS = 6_000;

const STORM_MS = { least: 8_000, most: 18_000 } as const;

/** By then the last fault has been noticed, what it has stirred up has been moved, and who was dampened once is back. */
const REST_MS = 20_000;

export function drawScenario(seed: number, chance: Chance): Scenario {
  const replicas = chance.pick([1, 2, 2, 3]);
  const stormUntilMs = CALM_MS + chance.between(STORM_MS.least, STORM_MS.most);
  const healMs = stormUntilMs + chance.between(1_000, 6_000);
  const detection = compileDetection({
    probeIntervalMs: chance.pick([1_000, 1_500, 2_000]),
    brakeFraction: chance.pick([1 / 3, 1 / 2]),
  });
  return {
    seed,
    replicas,
    dispatchers: chance.pick([2, 3, 3, 4]),
    servers: chance.whole(3, 6),
    conferences: chance.whole(6, 24),
    windowMs: chance.pick([2_000, 10_000]),
    tickMs: chance.pick([1_000, 3_000, 4_000]),
    ttlMs: chance.pick([3_000, 5_000, 6_000]),
    settings: {
      graceMs: 2_000,
      takeoverMs: 2_000,
      replicaLagMs: replicas > 1 ? 200 : 0,
      moveBudget: chance.pick([2, 500]),
      detection,
    },
    detection,
    stormUntilMs,
    healMs,
    endMs: healMs + REST_MS,
  };
}
