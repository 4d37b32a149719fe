import { writeSync } from "node:fs";
import { createEmbeddedStore } from "../../server/store/embedded/index.ts";

/**
 * Writes to the store in the directory it is given until it is killed, and prints a line for each acknowledged write:
 * revision, writer, count. Run by tests, as a process of its own.
 */
const [directory = "", seed = "1"] = process.argv.slice(2);
const WRITERS = 24;

const store = await createEmbeddedStore({ directory });
const { leaseId } = await store.leaseGrant(3_600_000);

/** A small linear congruential generator: the same seed gives the same writes. */
function createRandom(start: number) {
  let state = start;
  return (below: number) => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function writeForever(writer: number) {
  const random = createRandom(Number(seed) + writer);
  const key = `writer/${writer}`;
  const found = (await store.range({ key })).kvs[0];
  let count = found ? Number(Buffer.from(found.value).toString()) : 0;
  let modRevision = found?.modRevision ?? 0n;
  for (;;) {
    count++;
    const value = Buffer.from(String(count));
    const shared = `shared/${random(50)}`;
    const padding = new Uint8Array(random(20) === 0 ? 20_000 : 20);
    const { succeeded, revision } = await store.txn({
      compare: [{ key, modRevision }],
      then: [
        { put: { key, value } },
        random(4) === 0
          ? { delete: { key: shared } }
          : { put: { key: shared, value: padding, lease: random(3) === 0 ? leaseId : 0n } },
      ],
    });
    if (!succeeded) throw new Error(`writer ${writer} lost a compare of its own`);
    modRevision = revision;
    // Synchronous, so that the line is out before the process can be killed after it.
    writeSync(1, `${revision} ${writer} ${count}\n`);
  }
}

await Promise.all(Array.from({ length: WRITERS }, (_, writer) => writeForever(writer)));
