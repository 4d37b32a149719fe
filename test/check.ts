/** `npm run check`: everything that can be judged without running the program. Each check prints one line. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { importViolations } from "./check/import-rules.ts";

interface CheckResult {
  readonly ok: boolean;
  readonly output: string;
}

function run(command: string, ...args: string[]): CheckResult {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  return { ok: status === 0, output: `${stdout}${stderr}${error ? `${error.message}\n` : ""}` };
}

/** Generates anew beside the committed code and compares. */
function generatedCodeIsCurrent(): CheckResult {
  const directory = mkdtempSync(join(tmpdir(), "convoke-generated-"));
  try {
    const generated = run("buf", "generate", "--output", directory);
    if (!generated.ok) return generated;
    const compared = run("diff", "-r", "proto/gen", join(directory, "proto/gen"));
    return compared.ok
      ? compared
      : { ok: false, output: `${compared.output}run \`npm run generate\` and commit\n` };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function importsFollowTheRules(): CheckResult {
  const violations = importViolations(".");
  return { ok: violations.length === 0, output: violations.map((line) => `${line}\n`).join("") };
}

/** Against the newest published contracts; there is nothing to break before the first commit of them. */
function contractsAreCompatible(): CheckResult {
  const base = run("git", "rev-parse", "--verify", "--quiet", "origin/main:proto");
  return base.ok
    ? run("buf", "breaking", "--against", ".git#ref=refs/remotes/origin/main")
    : { ok: true, output: "" };
}

const checks: readonly [string, () => CheckResult][] = [
  ["types", () => run("tsc", "-p", ".")],
  ["format and lint", () => run("biome", "ci", "--colors=off", "--error-on-warnings", ".")],
  ["contracts", () => run("buf", "lint")],
  ["contracts are formatted", () => run("buf", "format", "--diff", "--exit-code")],
  ["contracts are compatible", contractsAreCompatible],
  ["generated code is current", generatedCodeIsCurrent],
  ["import rules", importsFollowTheRules],
];

let failures = 0;
for (const [name, check] of checks) {
  const { ok, output } = check();
  console.log(`${ok ? "ok  " : "FAIL"} ${name}`);
  if (ok) continue;
  failures += 1;
  process.stdout.write(output);
}
process.exitCode = failures === 0 ? 0 : 1;
