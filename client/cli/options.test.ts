import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { endpointOf } from "./context.ts";
import {
  collectLabel,
  collectList,
  durationParser,
  endpointOption,
  formatDuration,
  integerParser,
  parseDuration,
  parseHostPort,
  timeParser,
} from "./options.ts";

describe("durations", () => {
  test.each([
    ["500ms", 500],
    ["1s", 1_000],
    ["1.5s", 1_500],
    ["10m", 600_000],
    ["1h30m", 5_400_000],
    ["2d", 172_800_000],
    ["0s", 0],
  ])("%s is %d ms", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each(["", "10", "s", "-1s", "1 s", "1h30", "1y", "1e3s", "ms1"])(
    "%j is refused with what to write",
    (text) => {
      expect(() => parseDuration(text)).toThrow("such as 500ms, 1s, 10m or 1h30m");
    },
  );

  test("a range is enforced and named", () => {
    const parse = durationParser({ minMs: 1_000, maxMs: 600_000 });
    expect(parse("10m")).toBe(600_000);
    expect(() => parse("999ms")).toThrow("from 1s to 10m");
    expect(() => parse("601s")).toThrow("from 1s to 10m");
  });

  test.each([0, 1, 999, 1_000, 61_500, 90_061_001])("%d ms survive being written and read", (ms) => {
    expect(parseDuration(formatDuration(ms))).toBe(ms);
  });
});

describe("times", () => {
  const parse = timeParser(createFakeClock(Date.UTC(2030, 0, 1)));

  test.each([
    ["2030-01-31T09:00:00Z", Date.UTC(2030, 0, 31, 9)],
    ["2030-01-31T10:00:00+01:00", Date.UTC(2030, 0, 31, 9)],
    ["2030-01-31T09:00Z", Date.UTC(2030, 0, 31, 9)],
    ["2030-01-31t09:00:00.25z", Date.UTC(2030, 0, 31, 9, 0, 0, 250)],
    ["now", Date.UTC(2030, 0, 1)],
    ["+10m", Date.UTC(2030, 0, 1, 0, 10)],
    ["-1h30m", Date.UTC(2029, 11, 31, 22, 30)],
  ])("%s", (text, ms) => {
    expect(parse(text)).toBe(ms);
  });

  test.each([
    "",
    "tomorrow",
    "2030-01-31",
    "2030-01-31T09:00:00",
    "2030-02-30T09:00:00Z",
    "2030-01-31T25:00:00Z",
    "1893456000",
  ])("%j is refused with what to write", (text) => {
    expect(() => parse(text)).toThrow("RFC 3339");
  });

  test("a broken offset says how offsets are written", () => {
    expect(() => parse("+10")).toThrow("such as 500ms");
  });
});

test("whole numbers keep to their range", () => {
  const parse = integerParser({ min: 1, max: 100 });
  expect(parse("100")).toBe(100);
  for (const text of ["0", "101", "1.5", "ten", "", "1e1", "0x10"])
    expect(() => parse(text), text).toThrow("from 1 to 100");
});

test("labels collect into a record, values may contain =", () => {
  expect(collectLabel("b=x=y", collectLabel("a=1"))).toEqual({ a: "1", b: "x=y" });
  expect(collectLabel("a=")).toEqual({ a: "" });
  expect(() => collectLabel("a=2", { a: "1" })).toThrow("given twice");
  for (const text of ["a", "=1", ""]) expect(() => collectLabel(text), text).toThrow("key=value");
});

test("lists take commas and repetitions alike", () => {
  expect(collectList("b, c", collectList("a,b"))).toEqual(["a", "b", "c"]);
  expect(() => collectList("a,,b")).toThrow("commas");
});

test("addresses are checked and kept as written", () => {
  expect(parseHostPort("[::1]:7400")).toBe("[::1]:7400");
  for (const text of ["localhost", "http://a:1", "a:99999"])
    expect(() => parseHostPort(text), text).toThrow("such as 127.0.0.1:7400");
});

describe("the endpoint", () => {
  function parsed(...argv: string[]): Command {
    const leaf = new Command("get").addOption(endpointOption()).action(() => {});
    new Command().addOption(endpointOption()).addCommand(leaf).parse(argv, { from: "user" });
    return leaf;
  }

  test("is taken before and after the command's name", () => {
    expect(endpointOf({ env: {} }, parsed("--endpoint", "a:1", "get"))).toBe("a:1");
    expect(endpointOf({ env: {} }, parsed("get", "--endpoint", "a:1"))).toBe("a:1");
  });

  test("comes from the option, then the environment, then the default", () => {
    const env = { CONVOKE_ENDPOINT: "b:2" };
    expect(endpointOf({ env }, parsed("get", "--endpoint", "a:1"))).toBe("a:1");
    expect(endpointOf({ env }, parsed("get"))).toBe("b:2");
    expect(endpointOf({ env: { CONVOKE_ENDPOINT: "" } }, parsed("get"))).toBe("127.0.0.1:7400");
  });
});
