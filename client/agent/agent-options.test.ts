import { describe, expect, test } from "vitest";
import { type AgentOptions, compileAgentOptions } from "./agent-options.ts";

const least: AgentOptions = { id: "s1", capacity: 10 };

test("everything has a default but the ID and the capacity", () => {
  expect(compileAgentOptions(least)).toEqual({
    id: "s1",
    capacity: 10,
    listen: "127.0.0.1:0",
    advertise: "127.0.0.1:0",
    driver: "loopback",
    region: "",
    labels: {},
    endpoint: ["127.0.0.1:7400"],
    roomsListen: "127.0.0.1:0",
    roomsAdvertise: "127.0.0.1:0",
    roomServer: undefined,
    isolation: "stop",
    restartWithinMs: 30_000,
    drainDeadlineMs: 0,
    drainTimeoutMs: 300_000,
    exitWhenDrained: false,
    moveLingerMs: 2_000,
  });
});

test("rooms are advertised under the agent's host unless told otherwise", () => {
  const options = { ...least, listen: "0.0.0.0:7500", advertise: "s1.example.org:7500" };
  expect(compileAgentOptions(options)).toMatchObject({
    roomsListen: "0.0.0.0:0",
    roomsAdvertise: "s1.example.org:0",
  });
  expect(compileAgentOptions({ ...options, roomsAdvertise: "rooms:443" }).roomsAdvertise).toBe("rooms:443");
});

describe("what is wrong is named", () => {
  const cases: [string, object, RegExp][] = [
    ["an unknown option", { capcity: 1 }, /unknown agent option: capcity/],
    ["a bad ID", { id: "S1" }, /^id:/],
    ["no capacity", { capacity: 0 }, /^capacity:/],
    ["a capacity that is no whole number", { capacity: 1.5 }, /^capacity:/],
    ["an unknown driver", { driver: "phone" }, /^driver: write one of loopback/],
    ["a label without a key", { labels: { "": "x" } }, /^labels /],
    ["all interfaces without an address for others", { listen: "0.0.0.0:7500" }, /^advertise:/],
    ["an IPv6 wildcard without an address for others", { listen: "[::]:7500" }, /^advertise:/],
    ["an address nobody can reach", { advertise: "0.0.0.0:7500" }, /^advertise: nobody can reach/],
    ["a bad listen address", { listen: "here" }, /not an address: "here"/],
    ["a bad endpoint", { endpoint: "http://here" }, /not an address/],
  ];
  test.each(cases)("%s", (_, options, message) => {
    const attempt = () => compileAgentOptions({ ...least, ...options });
    expect(attempt).toThrow(TypeError);
    expect(attempt).toThrow(message);
  });
});
