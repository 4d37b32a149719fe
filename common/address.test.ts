import { describe, expect, it } from "vitest";
import { formatAddress, isAnyHost, parseAddress } from "./address.ts";

describe("an address", () => {
  it.each([
    ["127.0.0.1:7400", "127.0.0.1", 7400],
    ["[::1]:80", "::1", 80],
    [":0", "0.0.0.0", 0],
    ["a-host.example:65535", "a-host.example", 65_535],
  ])("%s", (text, host, port) => {
    expect(parseAddress(text)).toEqual({ host, port });
    expect(parseAddress(formatAddress(host, port))).toEqual({ host, port });
  });

  it.each(["", "host", "host:", "host:65536", "::1:80", "a b:1", "host:-1", "http://host:1", "host:1 "])(
    "not %j",
    (text) => {
      expect(() => parseAddress(text)).toThrow(TypeError);
    },
  );

  it("of all interfaces is told from one that can be called", () => {
    expect(["0.0.0.0", "::", "0:0:0:0:0:0:0:0"].map(isAnyHost)).toEqual([true, true, true]);
    expect(["127.0.0.1", "::1", "10.0.0.0", "host"].map(isAnyHost)).toEqual([false, false, false, false]);
  });
});
