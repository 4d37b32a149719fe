import { describe, expect, it } from "vitest";
import { failuresOf, summaryOf } from "./outcome.ts";
import type { DemoResult } from "./run-demo.ts";

const KILLED = {
  conferences: 8,
  active: 8,
  lost: 0,
  duplicate_dispatches: 0,
  max_share_difference: 1,
  taken_over: 0,
  reclaimed_from_dead_dispatcher: 0,
  blow: "kill",
  killed_server: "s1",
  conferences_on_killed_server: 4,
  verdict_ms: 400,
  failover_p50_ms: 500,
  failover_p99_ms: 99_000,
  failover_max_ms: 99_999,
  reads_checked: 1,
  moved: 4,
  moved_from_killed_server: 4,
  others_moved: 0,
  unplaced: 0,
  participants: 2,
  participants_followed: 2,
  longest_silence_ms: 600,
  participants_heard_each_other: true,
  resumed_server_hosts: null,
  old_connections: 0,
  old_connections_cut: 0,
  old_connections_cut_ms: null,
  replicas: 1,
  dispatchers: 2,
  servers: 2,
  seconds: 12.5,
} as const satisfies DemoResult;

const FROZEN = {
  ...KILLED,
  blow: "freeze",
  resumed_server_hosts: 0,
  old_connections: 2,
  old_connections_cut: 2,
  old_connections_cut_ms: 200,
} as const satisfies DemoResult;

describe("the outcome of a demo", () => {
  it("is good however slow it was", () => {
    expect(failuresOf(KILLED, 8)).toEqual([]);
    expect(failuresOf(FROZEN, 8)).toEqual([]);
  });

  it.each<[string, Partial<typeof KILLED | typeof FROZEN> | Record<string, unknown>, string]>([
    ["a conference that is lost", { lost: 1 }, "1 conferences lost"],
    ["one that is twice", { duplicate_dispatches: 1 }, "1 dispatched twice"],
    ["one that is not active", { active: 7 }, "7 of 8 active"],
    ["one that did not move", { moved_from_killed_server: 3 }, "3 of 4 conferences of s1 moved"],
    ["one without a row", { unplaced: 1 }, "1 conferences are nowhere"],
    ["one of another server that moved", { others_moved: 1 }, "1 conferences of other servers moved"],
    ["a participant that stayed behind", { participants_followed: 1 }, "1 of 2 participants followed"],
    [
      "a participant elsewhere that was cut",
      { participants_heard_each_other: false },
      "participants were cut off",
    ],
    ["a server that goes on hosting", { resumed_server_hosts: 2 }, "the resumed server hosts 2 conferences"],
    [
      "one whose list was never read",
      { resumed_server_hosts: Number.NaN },
      "the resumed server hosts NaN conferences",
    ],
    [
      "an old room that goes on",
      { old_connections_cut: 1 },
      "1 of 2 participants were cut from the rooms they had left",
    ],
    ["an unfair share", { max_share_difference: 2 }, "shares differ by 2"],
  ])("is bad with %s", (_name, change, failure) => {
    expect(failuresOf({ ...FROZEN, ...change } as DemoResult, 8)).toEqual([failure]);
  });

  it("does not hold against dispatchers what others took over", () => {
    expect(failuresOf({ ...KILLED, max_share_difference: 40, taken_over: 40 }, 8)).toEqual([]);
  });

  it("is told in words", () => {
    expect(summaryOf(FROZEN)).toContain(
      "server s1 of 2 was frozen: 4 of its 4 conferences are on other servers",
    );
    expect(summaryOf(FROZEN)).toContain("s1 hosts 0 conferences; it cut 2 of 2 connections");
    expect(summaryOf({ ...KILLED, failover_p99_ms: null })).toContain("– (99 %)");
  });
});
