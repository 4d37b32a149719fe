import { mkdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StoreError } from "../store.ts";

/** What SQLite answers when somebody else has the lock. */
const SQLITE_BUSY = 5;

export interface DirectoryLock {
  release(): void;
}

/**
 * Takes a directory for this process alone, creating it if absent.
 *
 * The lock must vanish with its owner, however it dies, and must hold between containers that share a volume. Only a
 * lock the kernel keeps on a file does both: a file with a process ID outlives a crash and says nothing in another PID
 * namespace, an abstract socket ends at the network namespace. Node cannot lock files itself, but the SQLite it comes
 * with does (`fcntl`) for as long as a transaction is open, so one is left open on an empty database named `lock`. Beside
 * it, `owner.json` tells a second comer whom to look for; it decides nothing.
 *
 * @throws {StoreError} `unavailable` when another owner is alive, or the directory cannot be made or written
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const ownerFile = join(directory, "owner.json");
  let lock: DatabaseSync | undefined;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    lock = new DatabaseSync(join(directory, "lock"), { timeout: 0 });
    lock.exec("BEGIN EXCLUSIVE");
    await writeFile(ownerFile, JSON.stringify({ pid: process.pid, host: hostname(), since: new Date() }));
  } catch (err) {
    lock?.close();
    if (isBusy(err)) {
      const owner = await readOwner(ownerFile);
      throw new StoreError("unavailable", `the store in ${directory} is in use by ${owner}`, { cause: err });
    }
    const reason = err instanceof Error ? err.message : String(err);
    throw new StoreError("unavailable", `cannot write to the store's directory ${directory}: ${reason}`, {
      cause: err,
    });
  }
  const held = lock;
  return { release: () => held.close() };
}

const isBusy = (err: unknown) => err instanceof Error && "errcode" in err && err.errcode === SQLITE_BUSY;

async function readOwner(file: string): Promise<string> {
  try {
    const { pid, host, since } = JSON.parse(await readFile(file, "utf8"));
    return `process ${pid} on ${host}, since ${since}`;
  } catch {
    // Its owner may be just starting: it locks first and signs second.
    return "another process";
  }
}
