import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { createServiceImplSpec } from "@connectrpc/connect";
import { afterEach, describe, expect, test } from "vitest";
import { listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { ConferenceService, DispatchEvent_Cause } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";

const LAUNCHER = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));

/** The machine's own Node.js, older than what the project brings on most machines; otherwise this one. */
const MACHINE_NODE =
  (process.env.PATH ?? "")
    .split(delimiter)
    .filter((folder) => folder !== "" && !folder.includes("node_modules"))
    .map((folder) => join(folder, "node"))
    .find(isExecutable) ?? process.execPath;

/** Makes any Node.js take itself for an old one. */
const TAKE_FOR_OLD = `--import=data:text/javascript,${encodeURIComponent(
  'Object.defineProperty(process, "version", { value: "v18.20.0" });',
)}`;

const stack: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const release of stack.splice(0).reverse()) await release();
});

function launch(node: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(node, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own, so that nothing is left behind when the launcher fails to end what it launched.
    detached: true,
  });
  stack.push(() => killGroup(child.pid));
  return child;
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left in it.
  }
}

async function finish(child: ChildProcess) {
  if (!child.stdout || !child.stderr) throw new Error("spawned without pipes");
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit"),
  ]);
  return { stdout, stderr, code, signal };
}

const run = (node: string, args: readonly string[], env?: Readonly<Record<string, string>>) =>
  finish(launch(node, args, env));

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "convoke-launcher-"));
  stack.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A control plane whose watch tells one row and then stays open; `closed` resolves when its caller is gone. */
async function openWatch(): Promise<{ endpoint: string; closed: Promise<void> }> {
  const closed = Promise.withResolvers<void>();
  const { methods } = createServiceImplSpec<typeof ConferenceService>(ConferenceService, {
    async *watchDispatches(_request, { signal }) {
      const dispatch = { conferenceId: "standup", serverId: "s1" };
      yield {
        revision: 3n,
        events: [{ type: EventType.PUT, cause: DispatchEvent_Cause.EXISTING, dispatch }],
      };
      await once(signal, "abort");
      closed.resolve();
    },
  });
  const listener = await listenGrpc({
    address: "127.0.0.1:0",
    services: [{ desc: ConferenceService, methods: Object.values(methods) }],
  });
  stack.push(() => listener.stop(0));
  return { endpoint: listener.address, closed: closed.promise };
}

async function seen(child: ChildProcess, what: string): Promise<void> {
  let content = "";
  for await (const chunk of child.stdout?.iterator({ destroyOnReturn: false }) ?? []) {
    content += chunk;
    if (content.includes(what)) return;
  }
  throw new Error(`ended without ${what}: ${content}`);
}

describe("under the machine's own Node.js", () => {
  test("the command runs on a Node.js that is new enough", async () => {
    const { stdout, code } = await run(MACHINE_NODE, [LAUNCHER, "version", "-o", "json"]);
    expect(code).toBe(0);
    expect(Number.parseInt(JSON.parse(stdout).node, 10)).toBeGreaterThanOrEqual(24);
  });

  test("output, errors and the exit code come through", async () => {
    const { stdout, stderr, code } = await run(MACHINE_NODE, [LAUNCHER, "gte", "servers"]);
    expect({ stdout, code }).toEqual({ stdout: "", code: 2 });
    expect(stderr).toContain("Did you mean get?");
  });

  test("nobody at the endpoint is one clear error", async () => {
    const { stderr, code } = await run(MACHINE_NODE, [LAUNCHER, "get", "servers"], {
      CONVOKE_ENDPOINT: "127.0.0.1:1",
    });
    expect(code).toBe(4);
    expect(stderr).toBe(
      "error: cannot reach the control plane at 127.0.0.1:1\n  connect ECONNREFUSED 127.0.0.1:1\nhint: is `convoke serve` running there? Name another with --endpoint or CONVOKE_ENDPOINT\n",
    );
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s is handed on, and the command ends in its own way", async (signal, exitCode) => {
    const { endpoint, closed } = await openWatch();
    const child = launch(MACHINE_NODE, [LAUNCHER, "watch", "dispatches", "--endpoint", endpoint]);
    await seen(child, "standup");
    child.kill(signal);
    expect((await once(child, "exit"))[0]).toBe(exitCode);
    await closed;
  });

  test("SIGKILL of the launcher ends the command too", async () => {
    const { endpoint, closed } = await openWatch();
    const child = launch(MACHINE_NODE, [LAUNCHER, "watch", "dispatches", "--endpoint", endpoint]);
    await seen(child, "standup");
    child.kill("SIGKILL");
    await closed;
  });
});

describe("the launcher", () => {
  test("says what to install when there is no new enough Node.js", async () => {
    const folder = await temporaryFolder();
    await cp(LAUNCHER, join(folder, "convoke.mjs"));
    const { stdout, stderr, code } = await run(process.execPath, [TAKE_FOR_OLD, join(folder, "convoke.mjs")]);
    expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
    expect(stderr).toContain("error: convoke needs Node.js 24 or newer, and this is v18.20.0");
    expect(stderr).toContain("npm install node@24");
  });

  test("does not start itself for ever when the Node.js it finds is old too", async () => {
    const { stderr, code } = await run(process.execPath, [TAKE_FOR_OLD, LAUNCHER, "version"]);
    expect(code).toBe(1);
    expect(stderr.match(/needs Node\.js 24/g)).toHaveLength(1);
  });

  test("runs what was built when there are no sources beside it", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "package.json"), '{"type":"module"}');
    for (const [path, content] of [
      ["bin", await readFile(LAUNCHER)],
      ["dist/bin", 'console.log("built", ...process.argv.slice(2));'],
    ] as const) {
      await mkdir(join(folder, path), { recursive: true });
      await writeFile(join(folder, path, "convoke.js"), content);
    }
    const { stdout } = await run(process.execPath, [join(folder, "bin/convoke.js"), "get", "servers"]);
    expect(stdout).toBe("built get servers\n");
  });

  test("--help loads nothing that only commands need", async () => {
    const report = `
      import { registerHooks } from "node:module";
      const loaded = new Set();
      registerHooks({ resolve(specifier, context, next) { loaded.add(specifier); return next(specifier, context); } });
      process.on("exit", () => process.stderr.write([...loaded].join("\\n")));`;
    const { stdout, stderr, code } = await run(process.execPath, [
      `--import=data:text/javascript,${encodeURIComponent(report)}`,
      LAUNCHER,
      "--help",
    ]);
    expect(code).toBe(0);
    expect(stdout).toContain("Usage: convoke");
    const packages = stderr.split("\n").filter((name) => /^[@a-z]/.test(name) && !name.startsWith("node:"));
    expect(packages.filter((name) => !name.startsWith("file:"))).toEqual(["commander"]);
  });
});

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
