import { describe, expect, it } from "vitest";
import { importViolations, violationsOf } from "./import-rules.ts";

describe("import rules", () => {
  it.each([
    ["client/a.ts", 'import { x } from "../server/b.ts";'],
    ["server/a.ts", 'import type { x } from "../client/b.ts";'],
    ["common/a.ts", 'export * from "../client/b.ts";'],
    ["server/dispatch/a.ts", 'import { x } from "../operations/b.ts";'],
    ["server/dispatch/a.ts", 'import { readFile } from "node:fs";'],
    ["server/view/a.ts", 'import { open } from "lmdb";'],
    ["client/cli/a.ts", 'const { Client } = await import("@grpc/grpc-js");'],
    ["server/a.ts", 'import "vitest";'],
  ])("forbid %s: %s", (file, source) => {
    expect(violationsOf(file, source)).toHaveLength(1);
  });

  it.each([
    ["client/a.ts", 'import { x } from "../common/b.ts";'],
    ["server/store/embedded/a.ts", 'import { open } from "lmdb";'],
    ["common/rpc/a.ts", 'import * as grpc from "@grpc/grpc-js";'],
    ["bin/a.ts", 'import { x } from "../server/b.ts";\nimport { y } from "../client/b.ts";'],
  ])("allow %s: %s", (file, source) => {
    expect(violationsOf(file, source)).toEqual([]);
  });

  it("hold in this tree", () => {
    expect(importViolations(new URL("../..", import.meta.url).pathname)).toEqual([]);
  });
});
