import { beforeAll, describe, expect, it } from "vitest";
import { DEBIAN_HOOK_TIMEOUT_MS, ensureDebianPackages } from "../support/debian.ts";
import { runStorm } from "./storm.ts";

const SEED = Number(process.env.CONVOKE_TEST_SEED ?? 20_260_417);

/** Some thirty faults; the long run is a command of its own, see README.md. */
const STORM_MS = 20_000;

beforeAll(() => ensureDebianPackages(["etcd-server", "etcd-client"]), DEBIAN_HOOK_TIMEOUT_MS);

describe("three replicas on a cluster of three", () => {
  it("keep every invariant under faults of members, replicas, networks and dispatchers (I1–I5, I7)", {
    // Starting, healing and coming to rest take most of it on a busy machine.
    timeout: 300_000,
  }, async () => {
    const { figures, verdict, surprises } = await runStorm({ seed: SEED, lengthMs: STORM_MS });
    const { faults, ok, failed, unknown } = figures;
    console.log(
      `seed ${SEED}: ${faults} faults, ${ok} calls ok, ${failed} failed, ${unknown} unknown, ${verdict.conferences} conferences`,
    );
    expect(verdict.findings).toEqual([]);
    expect(verdict.smallest).toBeUndefined();
    expect(verdict.undecided).toEqual([]);
    expect(surprises).toEqual([]);
    expect(faults).toBeGreaterThan(5);
    expect(verdict.conferences).toBeGreaterThan(5);
  });
});
