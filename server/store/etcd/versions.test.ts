import { describe, expect, it } from "vitest";
import { judgeVersion } from "./versions.ts";

describe("the version of an etcd member", () => {
  it.each([
    ["3.4.38", { kind: "good" }],
    ["3.4.39", { kind: "good" }],
    ["3.5.23", { kind: "good" }],
    ["3.6.5", { kind: "good" }],
    ["3.7.0", { kind: "good" }],
    ["4.0.0", { kind: "good" }],
    ["3.4.23", { kind: "buggy", upgradeTo: "3.4.38" }],
    ["3.4.0", { kind: "buggy", upgradeTo: "3.4.38" }],
    ["3.5.22", { kind: "buggy", upgradeTo: "3.5.23" }],
    ["3.6.4", { kind: "buggy", upgradeTo: "3.6.5" }],
    ["3.6.0-rc.3", { kind: "buggy", upgradeTo: "3.6.5" }],
    ["3.6.5-rc.1", { kind: "buggy", upgradeTo: "3.6.5" }],
    ["3.3.27", { kind: "too_old" }],
    ["2.3.8", { kind: "too_old" }],
    ["", { kind: "unknown" }],
    ["latest", { kind: "unknown" }],
  ])("%s", (version, verdict) => {
    expect(judgeVersion(version)).toEqual(verdict);
  });
});
