import { afterAll, beforeAll } from "vitest";
import { createLogger } from "../../common/logging.ts";
import { createEtcdStore } from "../../server/store/etcd/index.ts";
import type { Store } from "../../server/store/store.ts";
import { type EtcdCluster, startEtcd } from "../support/etcd.ts";
import { describeStore } from "./store-suite.ts";

let cluster: EtcdCluster;

beforeAll(async () => {
  cluster = await startEtcd();
});
afterAll(() => cluster.stop());

describeStore("etcd", async () => {
  let store: Store | undefined;
  return {
    async open() {
      store = createEtcdStore({ endpoints: cluster.endpoints, logger: createLogger("test", "silent") });
      return store;
    },
    // A server's clock cannot be set.
    passTime: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    async dispose() {
      await store?.close();
      await empty(cluster);
    },
  };
});

/** One server serves all tests: each gets it without keys and leases, at whatever revision it has come to. */
async function empty({ ctl }: EtcdCluster) {
  const listed = await ctl("lease", "list");
  for (const lease of listed.match(/^[0-9a-f]{8,}$/gm) ?? []) await ctl("lease", "revoke", lease);
  await ctl("del", "", "--from-key");
}
