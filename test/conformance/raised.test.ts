import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEmbeddedStore } from "../../server/store/embedded/index.ts";
import { raiseRevisions } from "../../server/store/raised-revisions.ts";
import type { Store } from "../../server/store/store.ts";
import { createFakeClock } from "../support/fake-clock.ts";
import { describeStore } from "./store-suite.ts";

/** Far above any revision that the suite comes to. */
const BASE = 1_000_000_000_000n;

describeStore("embedded, after a copy", async () => {
  const directory = await mkdtemp(join(tmpdir(), "convoke-store-"));
  const clock = createFakeClock();
  let store: Store | undefined;
  return {
    async open() {
      store = raiseRevisions(await createEmbeddedStore({ directory, clock }), BASE);
      return store;
    },
    passTime: (ms) => clock.advance(ms),
    async dispose() {
      await store?.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
