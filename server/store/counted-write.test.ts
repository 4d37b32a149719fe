import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCountedWrite } from "./counted-write.ts";
import { createEmbeddedStore } from "./embedded/index.ts";
import { type Store, StoreError } from "./store.ts";

describe("a counted write", () => {
  let directory: string;
  let store: Store;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-counted-"));
    store = await createEmbeddedStore({ directory });
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  const put = (key: string, modRevision: bigint, text: string) => ({
    key,
    modRevision,
    value: Buffer.from(text),
  });

  it("is counted once by what it was for and what became of it", async () => {
    const counted: string[] = [];
    const write = createCountedWrite(store, (kind, outcome) => counted.push(`${kind} ${outcome}`));
    await write("claim", [], [put("a", 0n, "1"), put("b", 0n, "1")]);
    await write("claim", [], [put("a", 0n, "2"), put("c", 0n, "2")]);
    await write("commit", [{ key: "a", modRevision: 99n }], [put("d", 0n, "3")]);
    await write("release", [], []);
    expect(counted).toEqual(["claim written", "claim conflict", "commit fenced"]);
  });

  it("tells an outcome that is unknown from a write that did not happen", async () => {
    const counted: string[] = [];
    const failing = (codes: ("unavailable" | "unknown_outcome")[]): Store => ({
      ...store,
      txn: () => Promise.reject(new StoreError(codes.shift() ?? "unavailable", "broken on purpose")),
    });
    const attempt = (codes: ("unavailable" | "unknown_outcome")[]) =>
      createCountedWrite(failing(codes), (_, outcome) => counted.push(outcome))(
        "round",
        [],
        [put("a", 0n, "1")],
      );
    await expect(attempt(["unavailable"])).rejects.toMatchObject({ code: "unavailable" });
    // The first try may have landed, so that the second did nothing does not mean that nothing was written.
    await expect(attempt(["unknown_outcome", "unavailable"])).rejects.toMatchObject({
      code: "unknown_outcome",
    });
    expect(counted).toEqual(["error", "unknown"]);
  });
});
