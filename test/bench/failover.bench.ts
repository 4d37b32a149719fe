/**
 * How long after the loss of a conference server that hosts 1,000 conferences each of them has a new row that a client
 * can read. `node test/bench/failover.bench.ts [ROUNDS] [OPTIONS OF convoke demo…]`: repeats `convoke demo` with a killed
 * and with a frozen server, default settings. The promise: 99 % within 1,500 ms of SIGKILL and within 5,000 ms of SIGSTOP.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { loadavg } from "node:os";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const ROUNDS = Number(process.argv[2] ?? 5);
const OPTIONS = process.argv.slice(3);
const BLOWS = [
  { option: "--kill-server", promisedMs: 1_500 },
  { option: "--freeze-server", promisedMs: 5_000 },
] as const;
const COLUMNS = [
  "conferences_on_killed_server",
  "verdict_ms",
  "failover_p50_ms",
  "failover_p99_ms",
  "failover_max_ms",
  "longest_silence_ms",
  "others_moved",
  "lost",
] as const;

type Figures = Readonly<Record<(typeof COLUMNS)[number], number>>;

const launcher = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));

async function round(option: string): Promise<Figures> {
  const args = [launcher, "demo", option, "--json", ...OPTIONS];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  if (code !== 0) throw new Error(`convoke demo ${option} ended with ${code}\n${stderr}${stdout}`);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

function line(cells: readonly (string | number)[]): string {
  const widths = [15, 7, 6, ...COLUMNS.map(({ length }) => length)];
  return cells.map((cell, index) => String(cell).padStart(widths[index] ?? 0)).join("  ");
}

console.log(line(["", "round", "load", ...COLUMNS]));
for (const { option, promisedMs } of BLOWS) {
  const rounds: Figures[] = [];
  for (let number = 1; number <= ROUNDS; number++) {
    const [load = 0] = loadavg();
    const figures = await round(option);
    rounds.push(figures);
    console.log(line([option, number, load.toFixed(1), ...COLUMNS.map((name) => figures[name])]));
  }
  const sorted = (name: (typeof COLUMNS)[number]) => rounds.map((each) => each[name]).sort((a, b) => a - b);
  const middle = COLUMNS.map((name) => sorted(name)[Math.floor(ROUNDS / 2)] ?? 0);
  console.log(line([option, "median", "", ...middle]));
  const kept = rounds.filter((each) => each.failover_p99_ms <= promisedMs).length;
  console.log(`${option}: failover_p99_ms at most ${promisedMs} in ${kept} of ${ROUNDS} rounds`);
}
