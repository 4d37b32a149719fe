import { describe, expect, it } from "vitest";
import { createSelfTrust } from "./self-trust.ts";

const SETTINGS = { probeIntervalMs: 1_000, probeTimeoutMs: 750 };

describe("an observer's trust in itself", () => {
  it("ends when most of what it probes falls silent at once, and comes back after a quiet while", () => {
    const trust = createSelfTrust(SETTINGS);
    trust.counted(10, 5, 0);
    expect(trust.withdrawal).toBeUndefined();
    trust.counted(10, 6, 100);
    expect(trust.withdrawal).toBe("6 of 10 servers time out at once");
    // What is said does not change with every probe.
    trust.counted(10, 7, 200);
    expect(trust.withdrawal).toBe("6 of 10 servers time out at once");
    trust.counted(10, 5, 300);
    trust.check(300 + 1_749);
    expect(trust.withdrawal).toBeDefined();
    // A relapse counts from then.
    trust.counted(10, 8, 2_050);
    trust.counted(10, 0, 2_060);
    trust.check(2_060 + 1_749);
    expect(trust.withdrawal).toBeDefined();
    trust.check(2_060 + 1_750);
    expect(trust.withdrawal).toBeUndefined();
  });

  it("lasts while most stay silent", () => {
    const trust = createSelfTrust(SETTINGS);
    trust.counted(4, 3, 0);
    for (let nowMs = 1_000; nowMs <= 60_000; nowMs += 1_000) trust.check(nowMs);
    expect(trust.withdrawal).toBeDefined();
  });

  it("does not end over one or two servers, which may well be dead", () => {
    const trust = createSelfTrust(SETTINGS);
    trust.counted(2, 2, 0);
    trust.counted(1, 1, 0);
    expect(trust.withdrawal).toBeUndefined();
    trust.counted(3, 3, 0);
    expect(trust.withdrawal).toBeDefined();
  });

  it("ends when probes go out late on average, not for one late probe among many", () => {
    const trust = createSelfTrust(SETTINGS);
    for (let probe = 0; probe < 99; probe++) trust.probeSent(2);
    trust.probeSent(5_000);
    trust.check(1_000);
    expect(trust.withdrawal).toBeUndefined();
    for (let probe = 0; probe < 100; probe++) trust.probeSent(400);
    trust.check(2_000);
    expect(trust.withdrawal).toBe("its probes go out 400 ms late");
    trust.probeSent(3);
    trust.check(3_000);
    expect(trust.withdrawal).toBeDefined();
    trust.probeSent(3);
    trust.check(4_000);
    expect(trust.withdrawal).toBeUndefined();
  });
});
