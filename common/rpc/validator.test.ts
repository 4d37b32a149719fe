import { create } from "@bufbuild/protobuf";
import { DurationSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { BadRequestSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import { reasonOf } from "./status.ts";
import { createValidator, type Validator } from "./validator.ts";

/** The violations that a check finds, as sent. */
function violationsOf(run: (check: Validator) => void) {
  const check = createValidator();
  run(check);
  try {
    check.done();
  } catch (err) {
    expect(err).toBeInstanceOf(ConnectError);
    const error = ConnectError.from(err);
    expect(error.code).toBe(Code.InvalidArgument);
    expect(reasonOf(error)).toBe(ErrorReason.INVALID_FIELD);
    return { error, violations: error.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [] };
  }
  return { error: undefined, violations: [] };
}

const fieldsOf = (run: (check: Validator) => void) => violationsOf(run).violations.map(({ field }) => field);

describe("a validator", () => {
  it.each(["a", "0", "a.b", "a-_.0", "x".repeat(63)])("takes %j for an ID", (id) => {
    expect(fieldsOf((check) => check.id("id", id))).toEqual([]);
  });

  it.each(["", "A", "-a", "a-", ".a", "a/b", "a b", "ä", "a\n", "x".repeat(64)])(
    "refuses %j as an ID",
    (id) => {
      expect(fieldsOf((check) => check.id("id", id))).toEqual(["id"]);
      expect(fieldsOf((check) => check.optionalId("id", id))).toEqual(id === "" ? [] : ["id"]);
    },
  );

  it("tells of everything that is wrong at once", () => {
    const { error, violations } = violationsOf((check) => {
      check.id("a", "");
      check.epoch("b", 0n);
      check.integer("c", 11, { min: 0, max: 10 });
      check.text("d", "ää", 3);
      check.size("e", [], { min: 1, max: 2 });
    });
    expect(violations.map(({ field }) => field)).toEqual(["a", "b", "c", "d", "e"]);
    expect(error?.rawMessage).toMatch(/^a is required.*; b .*; c must be from 0 to 10; and 2 more$/);
  });

  it("counts durations in milliseconds, and refuses malformed ones", () => {
    const range = { minMs: 0, maxMs: 1_000, fallbackMs: 7 };
    const check = createValidator();
    expect(check.duration("d", undefined, range)).toBe(7);
    expect(check.duration("d", create(DurationSchema, { nanos: 500_000_000 }), range)).toBe(500);
    check.done();
    for (const init of [
      { seconds: 1n, nanos: 1 },
      { seconds: -1n },
      { seconds: 2n ** 62n },
      { seconds: 1n, nanos: -999_999_999 },
      { nanos: 1_000_000_000 },
    ]) {
      expect(fieldsOf((check) => check.duration("d", create(DurationSchema, init), range))).toEqual(["d"]);
    }
  });

  it("takes instants from year 1 to year 9999", () => {
    const at = (seconds: bigint, nanos = 0) => create(TimestampSchema, { seconds, nanos });
    const check = createValidator();
    expect(check.timestamp("t", at(253_402_300_799n))).toBe(253_402_300_799_000);
    check.done();
    for (const value of [undefined, at(253_402_300_800n), at(-62_135_596_801n), at(0n, -1), at(0n, 1e9)]) {
      expect(fieldsOf((check) => check.timestamp("t", value))).toEqual(["t"]);
    }
  });

  it("names the entries that come twice, and the labels that are too long", () => {
    expect(fieldsOf((check) => check.unique("list", ["a", "b", "a"], (item) => item))).toEqual(["list[2]"]);
    expect(fieldsOf((check) => check.labels("labels", { "": "x" }))).toEqual(["labels"]);
    expect(fieldsOf((check) => check.labels("labels", { a: "x".repeat(257) }))).toEqual(["labels[a]"]);
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, ""]));
    expect(fieldsOf((check) => check.labels("labels", many))).toEqual(["labels"]);
  });

  it("never says more than headers carry, whatever the caller sent", () => {
    const long = "ü".repeat(1_000_000);
    const { error, violations } = violationsOf((check) => {
      check.unique("list", [long, long], (item) => item);
      check.labels("labels", { [long]: long });
      for (let index = 0; index < 1_000; index++) check.id(`list[${index}].conference_id`, "");
    });
    expect(Buffer.byteLength(JSON.stringify(violations))).toBeLessThan(8_000);
    expect(Buffer.byteLength(error?.rawMessage ?? "")).toBeLessThan(1_000);
    expect(error?.rawMessage).toContain("and 1000 more");
    expect(violations.map(({ field }) => field)).toContain("list[0].conference_id");
  });
});
