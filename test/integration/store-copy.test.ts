import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createProcessGroup, type DemoProcess, type ProcessGroup } from "../../client/cli/demo/processes.ts";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";
import { timestampFromMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { BatchCreateConferencesRequest_ConflictPolicy as ConflictPolicy } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { type EtcdCluster, startEtcd } from "../support/etcd.ts";

const LAUNCHER = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));
const PATIENCE = { timeout: 40_000, interval: 50 };
const TIMEOUT_MS = 180_000;

let etcd: EtcdCluster;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

let stack: AsyncDisposableStack;
let folder: string;
let group: ProcessGroup;
let lives: number;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), "convoke-copy-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  group = stack.use(createProcessGroup([process.execPath, LAUNCHER], folder));
  lives = 0;
});
afterEach(() => stack.disposeAsync());

interface Serving {
  readonly process: DemoProcess;
  readonly endpoint: string;
}

async function serve(store: string, listen = "127.0.0.1:0"): Promise<Serving> {
  const args = ["serve", "--listen", listen, "--http", "127.0.0.1:0", "--store", store];
  const process = group.start(`control-plane-${++lives}`, args, "control-plane");
  const { grpc } = await process.logged("serving", AbortSignal.timeout(PATIENCE.timeout));
  return { process, endpoint: String(grpc) };
}

function run(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [LAUNCHER, ...args], (err, stdout, stderr) => {
      const code = err ? (typeof err.code === "number" ? err.code : -1) : 0;
      resolve({ code, stdout, stderr });
    });
  });
}

const copy = (from: string, to: string, ...more: readonly string[]) =>
  run("store", "copy", "--from", from, "--to", to, "-o", "json", ...more);

const etcdAt = (prefix: string) => `etcd://${etcd.endpoints.join(",")}/${prefix}`;

async function schedule(client: ConvokeClient, ids: readonly string[]) {
  const nowMs = Date.now();
  // One at a time, so that revisions rise well above what the copy takes in its target.
  for (const conferenceId of ids)
    await client.conferences.batchCreateConferences({
      conflictPolicy: ConflictPolicy.UPDATE,
      requests: [
        {
          conference: {
            conferenceId,
            startTime: timestampFromMs(nowMs + 60_000),
            endTime: timestampFromMs(nowMs + 3_600_000),
          },
        },
      ],
    });
}

/** The dispatch epoch of each active conference. */
async function activeEpochs(client: ConvokeClient): Promise<Map<string, bigint>> {
  const { conferences } = await client.conferences.listConferences({ pageSize: 1000 });
  const active = conferences.filter(({ state }) => state === Conference_State.ACTIVE);
  return new Map(active.map(({ conferenceId, dispatch }) => [conferenceId, dispatch?.epoch ?? 0n]));
}

async function epochOf(client: ConvokeClient, dispatcherId: string): Promise<bigint> {
  const { dispatchers } = await client.dispatchers.listDispatchers({});
  return dispatchers.find((dispatcher) => dispatcher.dispatcherId === dispatcherId)?.epoch ?? 0n;
}

describe("convoke store copy", () => {
  test(
    "moves a deployment to etcd and back under its agent and dispatcher, and epochs only rise (I2, I3)",
    async () => {
      const first = `embedded:${join(folder, "first")}`;
      let serving = await serve(first);
      const { endpoint } = serving;
      const client = createConvokeClient({ endpoint });
      stack.defer(() => client.close());
      group.start("s1", ["agent", "--id", "s1", "--capacity", "1000", "--endpoint", endpoint]);
      group.start("d1", ["dispatcher", "--id", "d1", "--ttl", "2s", "--endpoint", endpoint]);
      const ids = Array.from({ length: 60 }, (_, index) => `conf-${index}`);
      await schedule(client, ids);
      await expect.poll(async () => (await activeEpochs(client)).size, PATIENCE).toBe(60);

      for (const [from, to, flags] of [
        [first, etcdAt("moved"), []],
        [etcdAt("moved"), `embedded:${join(folder, "back")}`, ["--source-stopped"]],
      ] as const) {
        const before = await activeEpochs(client);
        const dispatcherEpoch = await epochOf(client, "d1");
        // The agent now refuses every epoch of this conference up to the one it has had.
        await client.conferences.cancelConference({ conferenceId: "conf-7" });
        await serving.process.kill();
        // What is registered in etcd ends by itself there; until then it is a sign of life, and the copy refused.
        await expect
          .poll(() => copy(from, to, ...flags), PATIENCE)
          .toMatchObject({ code: 0, stdout: expect.stringContaining('"sha256"') });
        serving = await serve(to, endpoint);

        await expect.poll(() => epochOf(client, "d1"), PATIENCE).toBeGreaterThan(dispatcherEpoch);
        const after = await activeEpochs(client);
        before.delete("conf-7");
        for (const [id, epoch] of before) expect(after.get(id), id).toBe(epoch);
        const highest = [...after.values()].reduce((a, b) => (a > b ? a : b));
        await schedule(client, ["conf-7"]);
        await expect
          .poll(async () => (await activeEpochs(client)).get("conf-7") ?? 0n, PATIENCE)
          .toBeGreaterThan(highest);
      }
    },
    TIMEOUT_MS,
  );

  test(
    "a replica that serves the empty target is ended by the copy, and one started later serves it",
    async () => {
      const source = `embedded:${join(folder, "store")}`;
      const serving = await serve(source);
      const client = createConvokeClient({ endpoint: serving.endpoint });
      stack.defer(() => client.close());
      await schedule(client, ["a", "b"]);
      await serving.process.kill();
      const target = etcdAt("served");
      await serve(target);
      const died = group.failed.then(
        () => "",
        (err: Error) => err.message,
      );
      expect(await copy(source, target)).toMatchObject({ code: 0 });
      expect(await died).toContain("control-plane-2 ended by itself (exit code 1)");
      const after = await serve(target);
      const clientAfter = createConvokeClient({ endpoint: after.endpoint });
      stack.defer(() => clientAfter.close());
      const { conferences } = await clientAfter.conferences.listConferences({});
      expect(conferences.map(({ conferenceId }) => conferenceId)).toEqual(["a", "b"]);
    },
    TIMEOUT_MS,
  );

  test(
    "says what is wrong, and does nothing",
    async () => {
      const store = `embedded:${join(folder, "store")}`;
      const none = await copy(store, etcdAt("none"));
      expect(none).toMatchObject({
        code: 2,
        stdout: "",
        stderr: expect.stringContaining("there is no store in"),
      });
      await mkdir(join(folder, "empty"));
      const empty = await copy(`embedded:${join(folder, "empty")}`, etcdAt("none"));
      expect(empty).toMatchObject({
        code: 2,
        stderr: expect.stringContaining("there is nothing under convoke/"),
      });
      const unstated = await copy(etcdAt("none"), store);
      expect(unstated).toMatchObject({ code: 2, stderr: expect.stringContaining("--source-stopped") });

      const { process, endpoint } = await serve(store);
      const busy = await copy(store, etcdAt("none"));
      expect(busy).toMatchObject({
        code: 4,
        stderr: expect.stringContaining(`in use by process ${process.pid}`),
      });
      const client = createConvokeClient({ endpoint });
      stack.defer(() => client.close());
      await schedule(client, ["a"]);
      await process.kill();
      await etcd.ctl("put", "taken/by/another", "x");
      const taken = await copy(store, etcdAt("taken"));
      expect(taken).toMatchObject({ code: 2, stderr: expect.stringContaining("the target is not empty") });
      const unreachable = await copy(store, "etcd://127.0.0.1:1/none");
      expect(unreachable.code).toBe(4);
      expect(await etcd.ctl("get", "none/", "--prefix", "--keys-only")).toBe("");
    },
    TIMEOUT_MS,
  );

  test(
    "after a target that dies midway, exit code 3, and nobody serves from what is left",
    async () => {
      const source = `embedded:${join(folder, "store")}`;
      const serving = await serve(source);
      const client = createConvokeClient({ endpoint: serving.endpoint });
      stack.defer(() => client.close());
      await schedule(client, ["a"]);
      await serving.process.kill();
      await using small = await startEtcd({ flags: ["--max-request-bytes=1024"] });
      const target = `etcd://${small.endpoints[0]}/x`;
      const wide = createConvokeClient({ endpoint: (await serve(source)).endpoint });
      stack.defer(() => wide.close());
      await schedule(
        wide,
        Array.from({ length: 30 }, (_, index) => `${"long-".repeat(10)}${index}`),
      );
      await group[Symbol.asyncDispose]();
      const failed = await copy(source, target);
      expect(failed).toMatchObject({ code: 3, stderr: expect.stringContaining("marked as incomplete") });
      const refused = await run(
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--store",
        target,
      );
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("delete it and copy again") });
      expect(await copy(source, target)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining("delete it and copy again"),
      });
      await small.ctl("del", "--prefix", "x/");
    },
    TIMEOUT_MS,
  );
});
