import { describe, expect, it } from "vitest";
import type { CalendarInstance } from "./instance.ts";
import { bringTo } from "./shift.ts";

const HOUR_MS = 3_600_000;

function instance(
  conferenceId: string,
  startHour: number,
  hours: number,
  cancelled = false,
): CalendarInstance {
  const startMs = startHour * HOUR_MS;
  const endMs = startMs + hours * HOUR_MS;
  return {
    conferenceId,
    seriesId: "s",
    displayName: "",
    startMs,
    endMs,
    expectedParticipants: 1,
    weight: 1,
    cancelled,
    file: "x",
    line: 1,
  };
}

describe("bringTo", () => {
  it("keeps order, lengths and proportions, and leaves out what is cancelled", () => {
    const given = [
      instance("c", 100, 2),
      instance("a", 0, 1),
      instance("x", 10, 1, true),
      instance("b", 25, 3),
    ];
    const brought = bringTo(given, { startMs: 5_000, spanMs: 1_000 });
    expect(
      brought.map(({ conferenceId, startMs, endMs }) => [conferenceId, startMs, (endMs - startMs) / HOUR_MS]),
    ).toEqual([
      ["a", 5_000, 1],
      ["b", 5_250, 3],
      ["c", 6_000, 2],
    ]);
  });

  it("starts all at once without a span, and knows a least length", () => {
    const brought = bringTo([instance("a", 0, 1), instance("b", 9, 4)], {
      startMs: 7,
      spanMs: 0,
      minLengthMs: 2 * HOUR_MS,
    });
    expect(brought.map(({ startMs, endMs }) => [startMs, (endMs - startMs) / HOUR_MS])).toEqual([
      [7, 2],
      [7, 4],
    ]);
    expect(bringTo([], { startMs: 0, spanMs: 9 })).toEqual([]);
  });
});
