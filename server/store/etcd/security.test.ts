import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../../common/clock.ts";
import { createLogger } from "../../../common/logging.ts";
import {
  createTestAuthority,
  type EtcdCluster,
  startEtcd,
  type TestAuthority,
} from "../../../test/support/etcd.ts";
import { openStore } from "../open-store.ts";
import type { Store, StoreEvent } from "../store.ts";
import { createEtcdStore } from "./index.ts";

const logger = createLogger("test", "silent");
const auth = { user: "convoke", password: "s p@ce/and:more" };
const value = new Uint8Array([1]);

/** Long enough that a member's sweep of old tokens, once a second, has found one that was not used. */
const TOKEN_TTL_S = 1;
const EXPIRED_MS = 3_500;

const passTime = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("an etcd with TLS and passwords", () => {
  let directory: string;
  let authority: TestAuthority;
  let cluster: EtcdCluster;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-security-"));
    authority = await createTestAuthority(directory);
    cluster = await startEtcd({
      tls: authority,
      flags: ["--client-cert-auth", `--auth-token-ttl=${TOKEN_TTL_S}`],
    });
    const setUp = [
      ["user", "add", "root:rootsecret"],
      ["role", "add", "convoke"],
      ["role", "grant-permission", "convoke", "--prefix=true", "readwrite", "ours/"],
      ["user", "add", `${auth.user}:${auth.password}`],
      ["user", "grant-role", auth.user, "convoke"],
      ["user", "grant-role", "root", "root"],
      ["auth", "enable"],
    ];
    for (const args of setUp) await cluster.ctl(...args);
  });
  afterAll(async () => {
    await cluster?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  async function withStore<T>(use: (store: Store) => Promise<T>, password = auth.password): Promise<T> {
    const file = join(directory, "password");
    await writeFile(file, `${password}\n`);
    const { ca, cert, key } = authority;
    const query = new URLSearchParams({ ca, cert, key, user: auth.user, "password-file": file });
    const location = `etcd://${cluster.endpoints.join(",")}/ours?${query}`;
    const { store, prefix } = await openStore(location, { clock: systemClock, logger });
    expect(prefix).toBe("ours/");
    try {
      return await use(store);
    } finally {
      await store.close();
    }
  }

  const putA = (store: Store) => store.txn({ compare: [], then: [{ put: { key: "ours/a", value } }] });

  it("serves whoever shows certificate and password", async () => {
    await withStore(async (store) => {
      const { revision } = await putA(store);
      const { kvs } = await store.range({ prefix: "ours/" });
      expect(kvs).toMatchObject([{ key: "ours/a", modRevision: revision }]);
      const { leaseId } = await store.leaseGrant(5_000);
      expect(await store.leaseKeepalive(leaseId)).toMatchObject({ leaseId });
      await store.leaseRevoke(leaseId);
    });
  });

  it("renews a token that has expired: calls, leases and watches go on", async () => {
    await withStore(async (store) => {
      const { leaseId } = await store.leaseGrant(60_000);
      const { revision } = await putA(store);
      const controller = new AbortController();
      const watch = store.watch({ prefix: "ours/", fromRevision: revision + 1n }, controller.signal);
      const iterator = watch[Symbol.asyncIterator]();
      await iterator.next();
      await passTime(EXPIRED_MS);
      const later = await Promise.all([putA(store), putA(store), store.leaseKeepalive(leaseId)]);
      const seen: bigint[] = [];
      while (seen.length < 2) {
        const { value: batch } = await iterator.next();
        seen.push(...(batch?.events ?? []).map((event: StoreEvent) => event.kv.modRevision));
      }
      expect(seen).toEqual([later[0].revision, later[1].revision].sort((a, b) => Number(a - b)));
      controller.abort();

      await passTime(EXPIRED_MS);
      // A watch that begins with the old token.
      const again = store.watch({ prefix: "ours/", fromRevision: revision }, AbortSignal.timeout(20_000));
      for await (const { events } of again) if (events.length > 0) break;
    });
  });

  it("is unavailable with a wrong password, and says why", async () => {
    await withStore(async (store) => {
      await expect(store.range({ key: "ours/a" })).rejects.toMatchObject({
        code: "unavailable",
        message: expect.stringContaining("authentication failed"),
      });
      await expect(putA(store)).rejects.toMatchObject({ code: "unavailable" });
    }, "wrong");
  });

  it("is unavailable for keys that the user has no right to, and stays available for the others", async () => {
    await withStore(async (store) => {
      await expect(store.range({ key: "theirs/a" })).rejects.toMatchObject({
        code: "unavailable",
        message: expect.stringContaining("permission denied"),
      });
      await putA(store);
    });
  });

  it.each([
    ["without TLS", () => ({})],
    ["without a client's certificate", ({ ca }: { ca: Buffer }) => ({ tls: { ca } })],
    ["with system authorities only", () => ({ tls: {} })],
  ])("is unavailable %s", async (_, tlsOf) => {
    const tls = tlsOf({ ca: await readFile(authority.ca) });
    const store = createEtcdStore({ endpoints: cluster.endpoints, auth, logger, ...tls });
    try {
      await expect(store.range({ key: "ours/a" })).rejects.toMatchObject({ code: "unavailable" });
    } finally {
      await store.close();
    }
  });
});

describe("an etcd without passwords", () => {
  it("is used without one, even when one is given", async () => {
    await using cluster = await startEtcd();
    const store = createEtcdStore({ endpoints: cluster.endpoints, auth, logger });
    try {
      const { revision } = await store.txn({ compare: [], then: [{ put: { key: "a", value } }] });
      expect((await store.range({ key: "a" })).kvs).toMatchObject([{ modRevision: revision }]);
    } finally {
      await store.close();
    }
  });
});
