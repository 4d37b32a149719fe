import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encodeNumber } from "./encoding.ts";
import { createEmbeddedStore } from "./index.ts";
import { openTables } from "./tables.ts";

describe("opening a store", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-lock-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it("creates its directory, parents too", async () => {
    const nested = join(directory, "a", "b");
    const store = await createEmbeddedStore({ directory: nested });
    await store.close();
    await (await createEmbeddedStore({ directory: nested })).close();
  });

  it("refuses a second one in the same process until the first is closed", async () => {
    const store = await createEmbeddedStore({ directory });
    await expect(createEmbeddedStore({ directory })).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining(`in use by process ${process.pid} on `),
    });
    await store.txn({ compare: [], then: [{ put: { key: "a", value: new Uint8Array(1) } }] });
    await store.close();
    await (await createEmbeddedStore({ directory })).close();
  });

  it("refuses a second process, says which has it, and lets go when that is killed", async () => {
    const script = join(import.meta.dirname, "../../../test/conformance/crash-child.ts");
    const owner = spawn(process.execPath, [script, directory], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(owner.stdout, "data");
      await expect(createEmbeddedStore({ directory })).rejects.toMatchObject({
        code: "unavailable",
        message: expect.stringContaining(`process ${owner.pid} on `),
      });
    } finally {
      const exited = once(owner, "exit");
      owner.kill("SIGKILL");
      await exited;
    }
    const store = await createEmbeddedStore({ directory });
    expect((await store.range({ prefix: "writer/" })).kvs).not.toEqual([]);
    await store.close();
  });

  it("says so when the directory cannot be made", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");
    await expect(createEmbeddedStore({ directory: join(file, "store") })).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("cannot write to the store's directory"),
    });
  });

  it("refuses files of a newer release, and leaves them as they are", async () => {
    const tables = await openTables(directory);
    await tables.root.batch(() => {
      void tables.meta.put(Buffer.from("format"), encodeNumber(99n));
    });
    await tables.root.close();
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(createEmbeddedStore({ directory })).rejects.toMatchObject({
        code: "invalid",
        message: expect.stringContaining("has format 99"),
      });
    }
  });
});
