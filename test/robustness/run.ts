/** `npm run robustness -- [--seed N] [--minutes M] [--json]`: see README.md beside this file. */
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ensureDebianPackages } from "../support/debian.ts";
import type { History } from "./history.ts";
import type { Operation } from "./linearize.ts";
import { type Figures, runStorm } from "./storm.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const minutes = Number(values.minutes);
if (!Number.isSafeInteger(seed) || !(minutes > 0)) {
  console.error("usage: npm run robustness -- [--seed N] [--minutes M] [--json]");
  process.exit(2);
}

/** More findings say nothing more. */
const FINDINGS_SHOWN = 20;

console.log(`seed ${seed}, ${minutes} min; --seed ${seed} repeats its faults and its clients' choices`);
await ensureDebianPackages(["etcd-server", "etcd-client"]);
const result = await runStorm({ seed, lengthMs: minutes * 60_000, onProgress: showProgress });
const { figures, verdict, surprises } = result;
console.log("faults:");
for (const [kind, count] of Object.entries(figures.faultsByKind)) console.log(`  ${kind.padEnd(24)}${count}`);
console.log("calls that failed or stayed unknown:");
for (const [reason, count] of Object.entries(result.reasons)) console.log(`  ${reason.padEnd(56)}${count}`);
showProgress(figures);
const broken = verdict.findings.length + surprises.length;
if (broken > 0) {
  for (const { invariant, conferenceId = "", message } of verdict.findings.slice(0, FINDINGS_SHOWN))
    console.log(`BROKEN ${invariant} ${conferenceId} ${message}`);
  for (const surprise of surprises) console.log(`BROKEN a replica ${surprise}`);
  if (verdict.smallest) showOperations(verdict.smallest.conferenceId, verdict.smallest.operations);
  console.log(`history: ${await writeHistory(result.history)}`);
}
const { undecided, conferences } = verdict;
console.log(
  `${conferences} conferences checked, ${undecided.length} undecided, ${verdict.findings.length} findings: ${broken > 0 ? "BROKEN" : "all invariants hold"}`,
);
if (values.json) {
  const { faultsByKind, ...rest } = figures;
  console.log(
    JSON.stringify({
      ...{ seed, minutes, ...rest, faults_by_kind: faultsByKind, conferences, undecided: undecided.length },
      ...{ violations: verdict.findings.length, replicas_ended: surprises.length },
    }),
  );
}
process.exit(broken > 0 ? 1 : 0);

function showProgress({ seconds, faults, ok, failed, unknown }: Figures) {
  console.log(
    `${seconds.toFixed(0).padStart(5)} s  ${faults} faults  calls: ${ok} ok, ${failed} failed, ${unknown} unknown`,
  );
}

function showOperations(conferenceId: string, operations: readonly Operation[]) {
  console.log(`the smallest violation, conference ${conferenceId}:`);
  for (const { client, op, invokedMs, returnedMs, required, fromView } of operations) {
    const { kind, ...rest } = op;
    const flags = `${required ? "" : " perhaps"}${fromView ? " from a view" : ""}`;
    console.log(
      `  ${invokedMs.toFixed(1).padStart(10)} ${returnedMs.toFixed(1).padStart(10)}  ${client.padEnd(14)} ${kind} ${JSON.stringify(rest)}${flags}`,
    );
  }
}

async function writeHistory({ calls, watches }: History): Promise<string> {
  const file = join(await mkdtemp(join(tmpdir(), "convoke-history-")), "history.jsonl");
  await writeFile(file, [...calls, ...watches].map((record) => `${JSON.stringify(record)}\n`).join(""));
  return file;
}
