import { execFile } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { startEtcd } from "../support/etcd.ts";

const LAUNCHER = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));

/** Runs `convoke demo` to its end; gives its figures, which are on the last line of standard output. */
async function runDemo(...options: string[]): Promise<Record<string, unknown>> {
  const args = [LAUNCHER, "demo", "--json", ...options];
  const child = execFile(process.execPath, args, { maxBuffer: 1 << 24 });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, "close");
  expect({ code, stderr: code === 0 ? "" : stderr, stdout: code === 0 ? "" : stdout }).toEqual({
    code: 0,
    stderr: "",
    stdout: "",
  });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

const SIZES = ["--conferences", "60", "--servers", "4", "--dispatchers", "3"];

/** What must be so whatever was done to the server and however fast the machine is (I1, I3, I8). */
const GOOD = {
  conferences: 60,
  active: 60,
  lost: 0,
  unplaced: 0,
  duplicate_dispatches: 0,
  others_moved: 0,
  servers: 4,
  participants_heard_each_other: true,
};

function expectAllMoved(figures: Record<string, unknown>) {
  const hosted = Number(figures.conferences_on_killed_server);
  // By chance no fewer than an even share: it is the fullest server that is struck.
  expect(hosted).toBeGreaterThanOrEqual(15);
  expect(figures).toMatchObject({ moved: hosted, moved_from_killed_server: hosted });
  expect(Number(figures.participants)).toBeGreaterThan(0);
  expect(figures.participants_followed).toBe(figures.participants);
  expect(Number(figures.reads_checked)).toBeGreaterThan(0);
  expect(Number(figures.failover_max_ms)).toBeGreaterThanOrEqual(Number(figures.failover_p50_ms));
  expect(Number(figures.failover_p50_ms)).toBeGreaterThan(0);
}

describe("the demo of a conference server that is lost", { timeout: 150_000 }, () => {
  it("moves everything from a killed one and nothing else (I8), and participants follow", async () => {
    const figures = await runDemo("--kill-server", ...SIZES);
    expect(figures).toMatchObject({ ...GOOD, blow: "kill", resumed_server_hosts: null });
    expectAllMoved(figures);
  });

  it("moves everything from a frozen one, which hosts nothing and has cut everybody once it goes on (I2)", async () => {
    const figures = await runDemo("--freeze-server", ...SIZES);
    expect(figures).toMatchObject({ ...GOOD, blow: "freeze", resumed_server_hosts: 0 });
    expectAllMoved(figures);
    expect(figures.old_connections).toBe(figures.participants);
    expect(figures.old_connections_cut).toBe(figures.old_connections);
  });

  it("does so with three replicas over etcd", async () => {
    await using etcd = await startEtcd();
    const store = `etcd://${etcd.endpoints.join(",")}`;
    const figures = await runDemo("--kill-server", ...SIZES, "--store", store, "--replicas", "3");
    expect(figures).toMatchObject({ ...GOOD, replicas: 3 });
    expectAllMoved(figures);
  });
});
