import type { Store } from "../../server/store/store.ts";
import { createFakeClock } from "../support/fake-clock.ts";
import { createMemoryData, createMemoryStore } from "../support/memory-store.ts";
import { describeStore } from "./store-suite.ts";

describeStore("memory", async () => {
  const clock = createFakeClock();
  const data = createMemoryData();
  let store: Store | undefined;
  return {
    async open() {
      store = createMemoryStore(clock, data);
      return store;
    },
    passTime: (ms) => clock.advance(ms),
    async dispose() {
      await store?.close();
    },
  };
});
