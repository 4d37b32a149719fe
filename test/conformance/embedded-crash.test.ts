import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEmbeddedStore } from "../../server/store/embedded/index.ts";
import type { KeyValue, Store, StoreEvent } from "../../server/store/store.ts";

const ROUNDS = 6;

interface Acknowledged {
  readonly revision: bigint;
  readonly writer: string;
  readonly count: string;
}

const text = (kv: KeyValue) => Buffer.from(kv.value).toString();

async function readLog(store: Store, toRevision: bigint): Promise<StoreEvent[]> {
  const controller = new AbortController();
  const events: StoreEvent[] = [];
  for await (const batch of store.watch({ prefix: "", fromRevision: 1n }, controller.signal)) {
    events.push(...batch.events);
    if (batch.revision >= toRevision) break;
  }
  controller.abort();
  return events;
}

describe("a store whose process is killed", () => {
  let directory: string;
  let child: ChildProcess | undefined;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-crash-"));
  });
  afterEach(async () => {
    child?.kill("SIGKILL");
    await rm(directory, { recursive: true, force: true });
  });

  /** Kills the writer with SIGKILL once it has acknowledged so many writes. */
  async function runAndKill(seed: number, afterLines: number): Promise<Acknowledged[]> {
    const script = join(import.meta.dirname, "crash-child.ts");
    const running = spawn(process.execPath, [script, directory, String(seed)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    child = running;
    const exited = once(running, "exit");
    const acknowledged: Acknowledged[] = [];
    for await (const line of createInterface({ input: running.stdout })) {
      const [revision = "0", writer = "", count = ""] = line.split(" ");
      acknowledged.push({ revision: BigInt(revision), writer, count });
      if (acknowledged.length === afterLines) running.kill("SIGKILL");
    }
    await exited;
    expect(running.signalCode).toBe("SIGKILL");
    return acknowledged;
  }

  async function check(acknowledged: readonly Acknowledged[]) {
    const store = await createEmbeddedStore({ directory });
    try {
      const { revision, kvs } = await store.range({ prefix: "" });
      const events = await readLog(store, revision);
      const written = new Map(events.map(({ kv }) => [`${kv.modRevision} ${kv.key}`, kv]));
      for (const { revision: at, writer, count } of acknowledged) {
        const kv = written.get(`${at} writer/${writer}`);
        expect(kv && text(kv)).toBe(count);
      }
      // I7: the log replays to the current keys.
      const replayed = new Map<string, KeyValue>();
      for (const { type, kv } of events) {
        if (type === "delete") replayed.delete(kv.key);
        else replayed.set(kv.key, kv);
      }
      const readable = (kv: KeyValue) => ({ ...kv, value: Buffer.from(kv.value).toString("base64") });
      const sorted = [...replayed.values()].sort((a, b) =>
        Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)),
      );
      expect(sorted.map(readable)).toEqual(kvs.map(readable));
      // Each write compared with the one before, so none may be missing in between.
      for (const kv of kvs.filter(({ key }) => key.startsWith("writer/")))
        expect(text(kv)).toBe(`${kv.version}`);
      const revisions = new Set(events.map(({ kv }) => kv.modRevision));
      expect(BigInt(revisions.size)).toBe(revision - 1n);
      // The leases' own index of keys is right, too: revoking one takes all its keys and no others.
      const leased = kvs.filter((kv) => kv.lease !== 0n);
      for (const lease of new Set(leased.map((kv) => kv.lease))) await store.leaseRevoke(lease);
      const left = (await store.range({ prefix: "" })).kvs;
      expect(left.map((kv) => kv.key)).toEqual(kvs.filter((kv) => kv.lease === 0n).map((kv) => kv.key));
    } finally {
      await store.close();
    }
  }

  it("has every acknowledged write, and a log that agrees with its keys", async () => {
    const seed = Number(process.hrtime.bigint() % 1_000_000n);
    const acknowledged: Acknowledged[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const afterLines = 1 + ((seed * (round + 7) * 7_919) % 3_000);
      try {
        acknowledged.push(...(await runAndKill(seed + round, afterLines)));
        await check(acknowledged);
      } catch (err) {
        throw new Error(`seed ${seed}, round ${round}, killed after ${afterLines} writes`, { cause: err });
      }
    }
  });
});
