import { open as openFile } from "node:fs/promises";
import { join } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";
import { StoreError } from "../store.ts";
import { decodeNumber, encodeHead, encodeNumber, FIRST_HEAD } from "./encoding.ts";

export type Table = Database<Uint8Array, Uint8Array>;

/** The LMDB databases of the store, all in one file, so that one LMDB transaction spans them. */
export interface Tables {
  readonly root: RootDatabase<Uint8Array, Uint8Array>;
  /** The format version and the head. */
  readonly meta: Table;
  /** Key → its current state and value. */
  readonly current: Table;
  /** Revision → what it changed. */
  readonly log: Table;
  /** Lease ID → TTL in milliseconds. */
  readonly leases: Table;
  /** Lease ID, key → nothing: the keys on each lease. */
  readonly leaseKeys: Table;
}

/** Rises when a release can no longer read what an older one wrote. */
const FORMAT_VERSION = 1n;

export const HEAD_KEY = Buffer.from("head");
const FORMAT_KEY = Buffer.from("format");

const BINARY = { encoding: "binary", keyEncoding: "binary" } as const;

/** @throws {StoreError} `invalid` when a newer release wrote the files, `unavailable` when they cannot be opened */
export async function openTables(directory: string): Promise<Tables> {
  const tables = openFiles(directory);
  const { root, meta } = tables;
  const found = meta.get(FORMAT_KEY);
  if (!found) {
    await root.batch(() => {
      void meta.put(FORMAT_KEY, encodeNumber(FORMAT_VERSION));
      void meta.put(HEAD_KEY, encodeHead(FIRST_HEAD));
    });
    await syncDirectory(directory);
  } else if (decodeNumber(found) > FORMAT_VERSION) {
    await root.close();
    throw new StoreError(
      "invalid",
      `the store in ${directory} has format ${decodeNumber(found)} and this release knows up to ${FORMAT_VERSION}: ` +
        "start the release that wrote it, or a newer one",
    );
  }
  return tables;
}

function openFiles(directory: string): Tables {
  try {
    // Without overlapping syncs a commit is on disk before any reader sees it, which is what the store promises. Without
    // event turn batching the only promise of a batch is the one awaited: a failed commit rejects no other.
    const root = open<Uint8Array, Uint8Array>({
      ...BINARY,
      path: join(directory, "data.mdb"),
      maxDbs: 8,
      overlappingSync: false,
      eventTurnBatching: false,
    });
    const openTable = (name: string) => root.openDB<Uint8Array, Uint8Array>({ ...BINARY, name });
    return {
      root,
      meta: openTable("meta"),
      current: openTable("current"),
      log: openTable("log"),
      leases: openTable("leases"),
      leaseKeys: openTable("lease_keys"),
    };
  } catch (err) {
    const reason = err instanceof Error ? err.message : String(err);
    throw new StoreError("unavailable", `cannot open the store in ${directory}: ${reason}`, { cause: err });
  }
}

/** Makes the new file's entry in its directory durable, too. */
async function syncDirectory(directory: string) {
  await using handle = await openFile(directory, "r");
  await handle.sync();
}
