import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { addFigures, createFigures, type Figures } from "./figures.ts";

/** A seed whose run broke something. */
export interface Failure {
  readonly seed: number;
  readonly failure: string;
}

export interface ManyResult {
  readonly seeds: number;
  /** In order of seeds; once one fails no more are begun, so that there are few. */
  readonly failures: readonly Failure[];
  readonly figures: Figures;
  readonly seconds: number;
}

/** What a worker is told to run, and what it answers. */
export interface Slice {
  readonly from: number;
  readonly count: number;
}
export interface SliceResult {
  readonly seeds: number;
  readonly failures: readonly Failure[];
  readonly figures: Figures;
}

/** Few enough that all workers end at about the same time, enough that messages cost nothing. */
const SLICE = 20;

/** A world is garbage as soon as it is over; most of it need never be looked at. */
const YOUNG_GENERATION_MB = 128;

export interface ManyOptions {
  /** The first seed. */
  readonly from: number;
  readonly count: number;
  /** Default: one for each core. */
  readonly workers?: number;
  /** Whether to go on after a failure. Default: no. */
  readonly goOn?: boolean;
  readonly onProgress?: (seeds: number, failures: number) => void;
}

/** Runs seeds one after the other in as many threads as there are cores. */
export async function simulateMany(options: ManyOptions): Promise<ManyResult> {
  const { from, count, workers = availableParallelism(), goOn = false, onProgress } = options;
  const startedMs = performance.now();
  const figures = createFigures();
  const failures: Failure[] = [];
  let next = from;
  let seeds = 0;

  const take = (): Slice | undefined => {
    if (next >= from + count || (failures.length > 0 && !goOn)) return undefined;
    const slice = { from: next, count: Math.min(SLICE, from + count - next) };
    next += slice.count;
    return slice;
  };

  function runWorker(): Promise<void> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./worker.ts", import.meta.url), {
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      });
      const feed = () => {
        const slice = take();
        if (slice) worker.postMessage(slice);
        else void worker.terminate().then(() => resolve());
      };
      worker.on("error", reject);
      worker.on("message", (result: SliceResult) => {
        seeds += result.seeds;
        failures.push(...result.failures);
        addFigures(figures, result.figures);
        onProgress?.(seeds, failures.length);
        feed();
      });
      feed();
    });
  }

  const threads = Math.max(1, Math.min(workers, Math.ceil(count / SLICE)));
  await Promise.all(Array.from({ length: threads }, runWorker));
  failures.sort((a, b) => a.seed - b.seed);
  return { seeds, failures, figures, seconds: (performance.now() - startedMs) / 1_000 };
}
