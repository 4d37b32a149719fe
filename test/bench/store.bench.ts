/**
 * What the embedded store does in a second, beside what LMDB itself does in the same run on the same disk:
 * `node test/bench/store.bench.ts [DIRECTORY]` (a new directory under the system's temporary one by default).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEmbeddedStore } from "../../server/store/embedded/index.ts";
import { openTables } from "../../server/store/embedded/tables.ts";
import type { Store } from "../../server/store/store.ts";

const KEYS = 20_000;
const VALUE = new Uint8Array(200).fill(1);
const ROUNDS = 3;

const key = (index: number) => `conferences/${String(index % KEYS).padStart(8, "0")}`;

interface Case {
  readonly name: string;
  /** How many calls in all, and how many of them wait at a time. */
  readonly calls: number;
  readonly inFlight: number;
  /** What one call counts for in the last column. */
  readonly puts: number;
  readonly call: (index: number) => Promise<unknown>;
}

/** Keeps `inFlight` calls waiting until all are done. */
async function measure({ calls, inFlight, call }: Case): Promise<number> {
  let next = 0;
  const worker = async () => {
    while (next < calls) await call(next++);
  };
  const startMs = performance.now();
  await Promise.all(Array.from({ length: inFlight }, worker));
  return (calls * 1_000) / (performance.now() - startMs);
}

async function report(test: Case) {
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round++) rates.push(await measure(test));
  rates.sort((a, b) => a - b);
  const [least = 0, , most = 0] = rates;
  const show = (rate: number) => Math.round(rate).toLocaleString("en").padStart(9);
  console.log(`${test.name.padEnd(44)} ${show(least)} –${show(most)} /s ${show(most * test.puts)} puts/s`);
}

function storeCases(store: Store): Case[] {
  const put = (index: number) => ({ put: { key: key(index), value: VALUE } });
  const single = (index: number) => store.txn({ compare: [], then: [put(index)] });
  const revisions = new Map<string, bigint>();
  return [
    { name: "txn, 1 put, 1 in flight", calls: 2_000, inFlight: 1, puts: 1, call: single },
    { name: "txn, 1 put, 100 in flight", calls: 40_000, inFlight: 100, puts: 1, call: single },
    { name: "txn, 1 put, 2,000 in flight", calls: 100_000, inFlight: 2_000, puts: 1, call: single },
    {
      name: "txn, 1 compare + 1 put, 2,000 in flight",
      calls: 100_000,
      inFlight: 2_000,
      puts: 1,
      async call(index) {
        const name = `compared/${index % KEYS}`;
        const { succeeded, revision } = await store.txn({
          compare: [{ key: name, modRevision: revisions.get(name) ?? 0n }],
          then: [{ put: { key: name, value: VALUE } }],
        });
        if (!succeeded) throw new Error("a compare failed that had to hold");
        revisions.set(name, revision);
      },
    },
    {
      name: "txn, 1 compare + 127 puts, 16 in flight",
      calls: 800,
      inFlight: 16,
      puts: 127,
      call: (index) =>
        store.txn({
          compare: [{ key: "fence", modRevision: 0n }],
          then: Array.from({ length: 127 }, (_, offset) => put(index * 127 + offset)),
        }),
    },
  ];
}

async function measureRaw(directory: string) {
  const { root, current, log } = await openTables(directory);
  let written = 0;
  for (const batch of [1, 100, 2_000]) {
    await report({
      name: `raw lmdb, key + log record, ${batch} a commit`,
      calls: Math.ceil(Math.min(100_000, batch * 1_000) / batch),
      inFlight: 1,
      puts: batch,
      call: () =>
        root.batch(() => {
          for (let index = 0; index < batch; index++) {
            const number = Buffer.alloc(8);
            number.writeUInt32BE(++written, 4);
            void current.put(Buffer.from(key(written)), VALUE);
            void log.put(number, VALUE);
          }
        }),
    });
  }
  await root.close();
}

const directory = await mkdtemp(join(process.argv[2] ?? tmpdir(), "convoke-bench-"));
try {
  console.log(`${"".padEnd(44)}     least –     most of ${ROUNDS} rounds`);
  await measureRaw(join(directory, "raw"));
  const store = await createEmbeddedStore({ directory: join(directory, "store") });
  for (const test of storeCases(store)) await report(test);
  await store.close();
} finally {
  await rm(directory, { recursive: true, force: true });
}
