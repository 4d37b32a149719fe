/** `npm run simulate -- [--seeds N] [--seed S] [--trace] [--workers W] [--json]`: see README.md beside this file. */
import { parseArgs } from "node:util";
import { type Failure, simulateMany } from "./many.ts";
import { simulate } from "./simulate.ts";

const USAGE =
  "usage: npm run simulate -- [--seeds N] [--seed S] [--trace] [--workers W] [--keep-going] [--json]";

/** What led to a failure is in the last of it; `--trace` shows all. */
const TRACE_SHOWN = 80;
const FAILURES_SHOWN = 20;

const { values } = parseArgs({
  options: {
    seeds: { type: "string" },
    seed: { type: "string" },
    workers: { type: "string" },
    trace: { type: "boolean", default: false },
    "keep-going": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const from = readCount("seed", values.seed ?? "1");
const count = readCount("seeds", values.seeds ?? (values.seed === undefined ? "1000" : "1"));
const workers = values.workers === undefined ? {} : { workers: readCount("workers", values.workers) };

if (values.trace && count === 1) {
  await showTrace(from, Number.POSITIVE_INFINITY);
} else {
  let toldMs = performance.now();
  const result = await simulateMany({
    from,
    count,
    ...workers,
    goOn: values["keep-going"],
    onProgress(seeds, failures) {
      if (values.json || performance.now() - toldMs < 5_000) return;
      toldMs = performance.now();
      console.log(`${seeds} seeds, ${failures} failed`);
    },
  });
  const { seeds, failures, figures, seconds } = result;
  if (values.json) {
    const failed = failures.map(({ seed, failure }) => ({ seed, failure }));
    console.log(JSON.stringify({ from, seeds, failed, seconds: Math.round(seconds * 10) / 10, ...figures }));
  } else {
    const { faults, ...counts } = figures;
    for (const [name, number] of Object.entries({ ...faults, ...counts }))
      console.log(`${name.padEnd(28)}${number}`);
    for (const { seed, failure } of failures.slice(0, FAILURES_SHOWN))
      console.log(`BROKEN seed ${seed}: ${failure}`);
    const [first] = failures;
    if (first) await showFailure(first);
    const rate = Math.round((seeds / seconds) * 60);
    console.log(
      `${seeds} seeds from ${from} in ${seconds.toFixed(1)} s (${rate} a minute): ${failures.length > 0 ? `${failures.length} BROKEN` : "all invariants hold"}`,
    );
  }
  if (failures.length > 0) process.exitCode = 1;
}

async function showFailure({ seed }: Failure) {
  console.log(`the end of seed ${seed}; all of it: npm run simulate -- --seed ${seed} --trace`);
  await showTrace(seed, TRACE_SHOWN);
}

async function showTrace(seed: number, most: number) {
  const { trace, failure, failedAtMs } = await simulate(seed, true);
  for (const line of trace.slice(-most)) console.log(line);
  if (failure === undefined) console.log(`seed ${seed}: all invariants hold`);
  else {
    console.log(`BROKEN seed ${seed} at ${(failedAtMs / 1_000).toFixed(3)} s: ${failure}`);
    process.exitCode = 1;
  }
}

function readCount(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  console.error(`--${name}: write a whole number above 0, not ${JSON.stringify(text)}\n${USAGE}`);
  process.exit(2);
}
