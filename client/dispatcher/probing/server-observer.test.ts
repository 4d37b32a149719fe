import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Observation_Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import {
  afterNewIncarnation,
  afterProbe,
  afterStall,
  beginObservation,
  isCalledFailed,
  isFailing,
  nextProbe,
  type ObserverState,
  type ProbeKind,
  reachOf,
} from "./server-observer.ts";

const LIMITS = { refusals: 2, timeouts: 3, successes: 2, graceMs: 2_000 };
/** Any time after the grace. */
const LATER_MS = 10_000;

function run(
  kinds: readonly ProbeKind[],
  state = beginObservation(0, LIMITS),
  nowMs = LATER_MS,
  limits = LIMITS,
) {
  return kinds.reduce<ObserverState>(
    (last, kind) => afterProbe(last, { kind, detail: `it was ${kind}` }, nowMs, limits),
    state,
  );
}

/** The votes, each when it changed, such as `FAILED 2`. */
function votes(kinds: readonly ProbeKind[]) {
  const told: string[] = [];
  let state = beginObservation(0, LIMITS);
  for (const kind of kinds) {
    const next = run([kind], state);
    if (next.vote !== state.vote)
      told.push(`${Observation_Verdict[next.vote?.verdict ?? 0]} ${next.vote?.inARow}`);
    state = next;
  }
  return told;
}

describe("an observer's vote", () => {
  it.each<[string, readonly ProbeKind[], readonly string[]]>([
    ["refusals", ["refused", "refused", "refused"], ["FAILED 1", "FAILED 2"]],
    ["words that it is not healthy", ["unhealthy", "unhealthy"], ["FAILED 1", "FAILED 2"]],
    ["silence", ["timeout", "timeout", "timeout", "timeout"], ["TIMEOUT 1", "TIMEOUT 3"]],
    ["answers", ["ok", "ok", "ok"], ["OK 2"]],
    ["a failure among answers", ["ok", "ok", "timeout", "ok", "ok"], ["OK 2", "TIMEOUT 1", "OK 2"]],
    ["a single answer after failing", ["refused", "refused", "ok", "refused"], ["FAILED 1", "FAILED 2"]],
    ["silence and then refusals", ["timeout", "refused", "refused"], ["TIMEOUT 1", "FAILED 2"]],
    ["refusals between silence", ["refused", "timeout", "refused"], ["FAILED 1", "TIMEOUT 3"]],
    [
      "silence that turns out to be a dead process",
      ["timeout", "timeout", "timeout", "refused", "refused"],
      ["TIMEOUT 1", "TIMEOUT 3", "FAILED 2"],
    ],
    ["another server at its address", ["error", "error", "error"], ["TIMEOUT 1", "TIMEOUT 3"]],
    ["an answer now and then", ["timeout", "ok", "timeout", "ok", "timeout", "ok"], ["TIMEOUT 1"]],
  ])("follows %s", (_, kinds, expected) => {
    expect(votes(kinds)).toEqual(expected);
  });

  it("does not count what fails before the grace is over, unless the server has been heard", () => {
    const early = LIMITS.graceMs - 1;
    const unheard = run(["refused", "refused", "timeout"], beginObservation(0, LIMITS), early);
    expect(unheard).toMatchObject({ vote: undefined, failures: 0, refusals: 0 });
    // It counts from then on, from nothing.
    expect(run(["refused"], unheard, LIMITS.graceMs).vote).toMatchObject({ inARow: 1 });
    const heard = run(["ok", "refused", "refused"], beginObservation(0, LIMITS), early);
    expect(isCalledFailed(heard.vote, LIMITS)).toBe(true);
  });

  it("has a grace after a stall of its own, as long as that was, and keeps what it voted before", () => {
    const failing = run(["timeout", "timeout"]);
    for (const [stallMs, forMs] of [
      [500, 500],
      [60_000, LIMITS.graceMs],
    ] as const) {
      const stalled = afterStall(failing, LATER_MS, stallMs, LIMITS);
      expect(stalled.vote).toBe(failing.vote);
      const inGrace = run(["timeout", "timeout", "timeout"], stalled, LATER_MS + forMs - 1);
      expect(isCalledFailed(inGrace.vote, LIMITS)).toBe(false);
      const after = run(["timeout", "timeout", "timeout"], stalled, LATER_MS + forMs);
      expect(isCalledFailed(after.vote, LIMITS)).toBe(true);
    }
    // It shortens no grace that is running.
    const begun = beginObservation(LATER_MS, LIMITS);
    expect(afterStall(begun, LATER_MS, 500, LIMITS).graceUntilMs).toBe(begun.graceUntilMs);
  });

  it("says nothing of another incarnation that it has not seen itself (I5)", () => {
    const reborn = afterNewIncarnation(run(["refused", "refused"]));
    expect(reborn.vote).toBeUndefined();
    expect(reachOf(reborn, LIMITS)).toBe("answers");
    expect(run(["refused"], reborn).vote).toMatchObject({ inARow: 1 });
  });

  it("places nothing on a server until it has answered often enough since it failed", () => {
    const reach = (...kinds: ProbeKind[]) => reachOf(run(kinds), LIMITS);
    expect(reach()).toBe("answers");
    expect(reach("refused")).toBe("fails");
    expect(reach("refused", "ok")).toBe("fails");
    expect(reach("refused", "ok", "ok")).toBe("answers");
    expect(reach("timeout")).toBe("doubt");
    expect(reach("timeout", "ok")).toBe("doubt");
    expect(reach("timeout", "ok", "ok")).toBe("answers");
    expect(reach("timeout", "timeout", "timeout")).toBe("fails");
    expect(reach("timeout", "timeout", "timeout", "ok")).toBe("fails");
    expect(reachOf(run(["timeout"], beginObservation(0, LIMITS), 0), LIMITS)).toBe("doubt");
    expect(reachOf(run(["refused"], beginObservation(0, LIMITS), 0), LIMITS)).toBe("fails");
  });

  it("is hurried only while a few results more would change it", () => {
    const pace = (kinds: readonly ProbeKind[], nowMs = LATER_MS) =>
      nextProbe(run(kinds, beginObservation(0, LIMITS), nowMs), nowMs, LIMITS);
    expect(pace(["ok"])).toBe("interval");
    expect(pace(["refused"])).toBe("retry");
    expect(pace(["refused", "refused"])).toBe("interval");
    expect(pace(["timeout", "timeout"])).toBe("retry");
    expect(pace(["timeout", "timeout", "timeout"])).toBe("interval");
    expect(pace(["refused", "refused", "ok"])).toBe("retry");
    expect(pace(["refused", "refused", "ok", "ok"])).toBe("interval");
    expect(pace(["refused"], 0)).toBe("interval");
  });

  const someKinds = fc.array(fc.constantFrom<ProbeKind[]>("ok", "refused", "unhealthy", "timeout", "error"), {
    maxLength: 60,
  });
  const someLimits = fc.record({
    refusals: fc.integer({ min: 1, max: 5 }),
    timeouts: fc.integer({ min: 1, max: 5 }),
    successes: fc.integer({ min: 1, max: 5 }),
    graceMs: fc.constant(0),
  });

  it("calls a server failed only after enough failures in a row, and well only after enough answers", () => {
    fc.assert(
      fc.property(someKinds, someLimits, (kinds, limits) => {
        let state = beginObservation(0, LIMITS);
        kinds.forEach((kind, index) => {
          const before = state.vote;
          state = run([kind], state, LATER_MS, limits);
          const { vote } = state;
          if (vote === before) return;
          const runOf = (matches: (one: ProbeKind) => boolean) =>
            index - kinds.slice(0, index + 1).findLastIndex((one) => !matches(one));
          const failures = runOf((one) => one !== "ok");
          const refusals = runOf((one) => one === "refused" || one === "unhealthy");
          const answers = runOf((one) => one === "ok");
          if (!isFailing(vote)) expect(answers).toBeGreaterThanOrEqual(limits.successes);
          else if (!isCalledFailed(vote, limits)) expect(isFailing(before)).toBe(false);
          else if (vote?.verdict === Observation_Verdict.FAILED) {
            expect(refusals).toBe(vote.inARow);
          } else expect(failures).toBe(vote?.inARow);
        });
      }),
    );
  });

  it("calls no server failed that failed less often than every limit asks for", () => {
    fc.assert(
      fc.property(someKinds, someLimits, (kinds, limits) => {
        const state = run(kinds, beginObservation(0, LIMITS), LATER_MS, limits);
        let failures = 0;
        let longest = 0;
        for (const kind of kinds) {
          failures = kind === "ok" ? 0 : failures + 1;
          longest = Math.max(longest, failures);
        }
        if (longest < Math.min(limits.refusals, limits.timeouts)) {
          expect(isCalledFailed(state.vote, limits)).toBe(false);
        }
      }),
    );
  });
});
