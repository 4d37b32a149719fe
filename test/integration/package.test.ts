import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TSC = join(ROOT, "node_modules", ".bin", "tsc");

/** Building, packing and installing take about 10 s with a warm cache of npm; registries stall. */
const INSTALL_TIMEOUT_MS = 240_000;

/** What a user of the package writes; touches each kind of thing that it exports. */
const CONSUMER = `
import {
  Code,
  type Conference,
  Conference_State,
  ConnectError,
  createAgentClient,
  createConvokeClient,
  type DispatchEvent,
  ErrorReason,
  paginate,
  reasonOf,
  timestampFromMs,
  type WatchUpdate,
  watchDispatches,
} from "convoke";
import { ConferenceSchema } from "convoke/v1/conference";
import type { ListConferencesRequest } from "convoke/v1/conference_service";

using client = createConvokeClient({ endpoint: "127.0.0.1:1", timeoutMs: 5_000 });
using agent = createAgentClient("127.0.0.1:1");
const states: ListConferencesRequest["states"] = [Conference_State.ACTIVE];
const all: AsyncGenerator<Conference> = paginate(
  (pageToken) =>
    client.conferences.listConferences({ states, pageToken, startTimeFrom: timestampFromMs(0) }),
  (page) => page.conferences,
);
const updates: AsyncGenerator<WatchUpdate<DispatchEvent>> = watchDispatches(client.conferences);
const outcomes: string[] = [];
for (const attempt of [() => all.next(), () => updates.next(), () => agent.listHostedConferences({})]) {
  try {
    await attempt();
    outcomes.push("answered");
  } catch (err) {
    if (!(err instanceof ConnectError)) throw err;
    outcomes.push(\`\${Code[err.code]} \${reasonOf(err) === ErrorReason.NOT_DUE}\`);
  }
}
console.log(JSON.stringify({ outcomes, schema: ConferenceSchema.typeName }));
`;

const TSCONFIG = {
  compilerOptions: {
    target: "es2022",
    lib: ["es2024", "esnext.disposable", "dom"],
    module: "nodenext",
    moduleResolution: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: true,
    types: [],
    outDir: "out",
  },
  include: ["main.ts"],
};

const exec = promisify(execFile);
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "convoke-package-"));
  const options = { timeout: INSTALL_TIMEOUT_MS };
  const packed = await exec("npm", ["pack", "--json", "--pack-destination", folder], {
    ...options,
    cwd: ROOT,
  });
  const tarball = join(folder, tarballOf(packed.stdout));
  await mkdir(join(folder, "app"));
  const app = join(folder, "app");
  await writeFile(join(app, "package.json"), '{"name":"app","private":true,"type":"module"}');
  await writeFile(join(app, "tsconfig.json"), JSON.stringify(TSCONFIG));
  await writeFile(join(app, "main.ts"), CONSUMER);
  const flags = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"];
  await exec("npm", ["install", tarball, ...flags], { ...options, cwd: app });
}, 2 * INSTALL_TIMEOUT_MS);

afterAll(() => rm(folder, { recursive: true, force: true }));

/** The file's name, out of what npm prints behind the output of the build. */
function tarballOf(stdout: string): string {
  const name = /"filename": "(?<name>[^"]+)"/.exec(stdout)?.groups?.name;
  if (!name) throw new Error(`npm pack named no file: ${stdout}`);
  return name;
}

const inApp = (file: string, ...args: string[]) =>
  exec(file, args, { cwd: join(folder, "app"), timeout: 60_000 });

test("a TypeScript program compiles against the installed package and runs", async () => {
  await inApp(TSC, "-p", ".");
  const { stdout } = await inApp(process.execPath, join("out", "main.js"));
  expect(JSON.parse(stdout)).toEqual({
    outcomes: ["Unavailable false", "Unavailable false", "Unavailable false"],
    schema: "convoke.v1.Conference",
  });
});

test("the installed command runs what was built", async () => {
  const { stdout } = await inApp(process.execPath, join("node_modules", ".bin", "convoke"), "--help");
  expect(stdout).toContain("Usage: convoke <command> [options]");
});

test("the installed command serves a control plane and talks to it", async () => {
  const convoke = join("node_modules", ".bin", "convoke");
  const serving = spawn(
    process.execPath,
    [convoke, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", "embedded:data"],
    { cwd: join(folder, "app"), stdio: ["ignore", "ignore", "pipe"] },
  );
  try {
    const address = await servedAddress(serving.stderr);
    const { stdout } = await inApp(
      process.execPath,
      convoke,
      "get",
      "servers",
      "-o",
      "json",
      "--endpoint",
      address,
    );
    expect(JSON.parse(stdout)).toEqual({ servers: [] });
    serving.kill("SIGTERM");
    expect(await once(serving, "exit")).toEqual([0, null]);
  } finally {
    serving.kill("SIGKILL");
  }
});

async function servedAddress(stderr: Readable): Promise<string> {
  const said: string[] = [];
  for await (const line of createInterface({ input: stderr })) {
    said.push(line);
    const { msg, grpc } = line.startsWith("{") ? JSON.parse(line) : {};
    if (msg !== "serving") continue;
    stderr.resume();
    return grpc;
  }
  throw new Error(`convoke serve ended: ${said.join("\n")}`);
}
