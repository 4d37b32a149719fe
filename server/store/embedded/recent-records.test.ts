import { describe, expect, it } from "vitest";
import { createRecentRecords } from "./recent-records.ts";

const record = (revision: bigint, bytes = 10) => {
  const value = new Uint8Array(bytes);
  const after = { key: "a", value, createRevision: 1n, modRevision: revision, version: 1n, lease: 0n };
  return { revision, changes: [{ key: "a", before: undefined, after }] };
};

describe("recent records", () => {
  it("gives what follows a revision, and nothing that it does not have", () => {
    const recent = createRecentRecords(5n);
    for (let revision = 5n; revision <= 9n; revision++) recent.push(record(revision));
    const from = (revision: bigint) => {
      const records = recent.from(revision);
      return records && [...records].map((each) => each.revision);
    };
    expect(from(4n)).toBeUndefined();
    expect(from(5n)).toEqual([5n, 6n, 7n, 8n, 9n]);
    expect(from(9n)).toEqual([9n]);
    recent.dropBefore(8n);
    expect(from(7n)).toBeUndefined();
    expect(from(8n)).toEqual([8n, 9n]);
    recent.dropBefore(20n);
    recent.push(record(10n));
    expect(from(10n)).toEqual([10n]);
  });

  it("is bounded in number and in bytes, and always has the newest", () => {
    const many = createRecentRecords(1n);
    for (let revision = 1n; revision <= 25_000n; revision++) many.push(record(revision));
    expect(many.from(15_000n)).toBeUndefined();
    expect([...(many.from(15_001n) ?? [])]).toHaveLength(10_000);
    const large = createRecentRecords(1n);
    for (let revision = 1n; revision <= 20n; revision++) large.push(record(revision, 4 << 20));
    expect(large.from(10n)).toBeUndefined();
    expect([...(large.from(20n) ?? [])]).toHaveLength(1);
  });
});
