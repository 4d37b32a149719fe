import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createProbeSchedule } from "./probe-schedule.ts";

function setUp() {
  const clock = createFakeClock();
  const fired: { serverId: string; dueMs: number; atMs: number }[] = [];
  const schedule = createProbeSchedule(clock, (serverId, dueMs) =>
    fired.push({ serverId, dueMs, atMs: clock.monotonicMs() }),
  );
  return { clock, fired, schedule };
}

describe("the schedule of probes", () => {
  it("hands out each server when it is due, in order, with one timer for all", async () => {
    const { clock, fired, schedule } = setUp();
    for (let index = 0; index < 500; index++) schedule.set(`s${index}`, (index * 7_919) % 1_000);
    expect(clock.pending).toBe(1);
    await clock.advance(1_000);
    expect(fired).toHaveLength(500);
    for (const { dueMs, atMs } of fired) expect(atMs).toBe(dueMs);
    expect(clock.pending).toBe(0);
    expect(schedule.size).toBe(0);
  });

  it("takes the last word on a server", async () => {
    const { clock, fired, schedule } = setUp();
    schedule.set("later", 10);
    schedule.set("later", 20);
    schedule.set("sooner", 30);
    schedule.set("sooner", 5);
    schedule.set("gone", 15);
    schedule.delete("gone");
    await clock.advance(100);
    expect(fired.map(({ serverId, atMs }) => [serverId, atMs])).toEqual([
      ["sooner", 5],
      ["later", 20],
    ]);
  });

  it("is never late by itself: what is due hands out all at once, and what was due in the past at once", async () => {
    const { clock, fired, schedule } = setUp();
    await clock.advance(50);
    schedule.set("late", 20);
    for (let index = 0; index < 2_000; index++) schedule.set(`s${index}`, 50);
    await clock.advance(0);
    expect(fired).toHaveLength(2_001);
    expect(fired[0]).toEqual({ serverId: "late", dueMs: 20, atMs: 50 });
  });

  it("comes round again when a server is scheduled while it is handed out", async () => {
    const clock = createFakeClock();
    const times: number[] = [];
    const schedule = createProbeSchedule(clock, (serverId) => {
      times.push(clock.monotonicMs());
      schedule.set(serverId, clock.monotonicMs() + 10);
    });
    schedule.set("s", 0);
    await clock.advance(35);
    expect(times).toEqual([0, 10, 20, 30]);
    schedule[Symbol.dispose]();
    expect(clock.pending).toBe(0);
  });

  it("agrees with a list that is sorted, whatever is set and deleted", async () => {
    const step = fc.record({
      serverId: fc.constantFrom("a", "b", "c", "d", "e"),
      dueMs: fc.option(fc.integer({ min: 0, max: 50 }), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const { clock, fired, schedule } = setUp();
        const model = new Map<string, number>();
        for (const { serverId, dueMs } of steps) {
          if (dueMs === undefined) {
            schedule.delete(serverId);
            model.delete(serverId);
          } else {
            schedule.set(serverId, dueMs);
            model.set(serverId, dueMs);
          }
        }
        await clock.advance(100);
        const got = fired.map(({ serverId, atMs }) => `${atMs} ${serverId}`);
        expect(got.toSorted()).toEqual([...model].map(([serverId, dueMs]) => `${dueMs} ${serverId}`).sort());
      }),
      { numRuns: 50 },
    );
  });
});
