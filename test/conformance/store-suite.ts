import { afterEach, beforeEach, describe } from "vitest";
import type { Store } from "../../server/store/store.ts";
import { describeCompaction } from "./compaction-suite.ts";
import type { StoreHarness } from "./harness.ts";
import { describeLeases } from "./lease-suite.ts";
import { describeLifecycle } from "./lifecycle-suite.ts";
import { describeModel } from "./model-suite.ts";
import { describeRange } from "./range-suite.ts";
import { describeTxn } from "./txn-suite.ts";
import { describeWatch } from "./watch-suite.ts";

/** The store under test and its harness, new and empty for each test. */
export interface Subject {
  readonly store: Store;
  readonly harness: StoreHarness;
  /** Closes the store and opens it again on its data. */
  reopen(): Promise<Store>;
}

/**
 * What every engine of the store must do. It relies on nothing but the interface: revisions need not start at any
 * number, leases may last longer than asked for, and nothing happens at an exact time.
 */
export function describeStore(name: string, createHarness: () => Promise<StoreHarness>): void {
  describe(`store conformance: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;

    beforeEach(async () => {
      harness = await createHarness();
      store = await harness.open();
    });
    afterEach(() => harness.dispose());

    const subject: Subject = {
      get store() {
        return store;
      },
      get harness() {
        return harness;
      },
      async reopen() {
        await store.close();
        store = await harness.open();
        return store;
      },
    };
    describeRange(subject);
    describeTxn(subject);
    describeWatch(subject);
    describeCompaction(subject);
    describeLeases(subject);
    describeLifecycle(subject);
    describeModel(subject);
  });
}
