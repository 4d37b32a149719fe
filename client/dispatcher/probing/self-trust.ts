import type { DetectionSettings } from "../../../common/detection.ts";

/**
 * Whether an observer may trust what it sees.
 *
 * | from      | to        | when                                                                                  |
 * | --------- | --------- | ------------------------------------------------------------------------------------- |
 * | trusting  | withdrawn | its probes go out late, or most of what it probes has stopped answering together       |
 * | withdrawn | trusting  | neither has been so for a while (`wellForMs`)                                          |
 */
export interface SelfTrust {
  /** Why none of its votes should count; undefined when they should. */
  readonly withdrawal: string | undefined;
  /** A probe went out this late. */
  probeSent(lagMs: number): void;
  /** How many servers it probes, apart from those that are known to be DOWN, and how many of them time out now. */
  counted(probed: number, timingOut: number, nowMs: number): void;
  /** Looks at the lag since the last check, and at the time: to be called about once a probe interval. */
  check(nowMs: number): void;
}

/** A probe this late has used up half of its time before it began, as a part of `probeTimeoutMs`. */
const LAG_PART = 0.5;

/** Fewer than this are no majority worth the name: with two servers, both may well be dead. */
const FEWEST_TIMING_OUT = 3;

export function createSelfTrust(
  settings: Pick<DetectionSettings, "probeIntervalMs" | "probeTimeoutMs">,
): SelfTrust {
  const lagLimitMs = settings.probeTimeoutMs * LAG_PART;
  /** As long as every server is probed once and given its time to answer. */
  const wellForMs = settings.probeIntervalMs + settings.probeTimeoutMs;
  let withdrawal: string | undefined;
  let unwellAtMs = Number.NEGATIVE_INFINITY;
  let silent = false;
  // Of the probes since the last check.
  let probes = 0;
  let lagSumMs = 0;

  function unwell(reason: string, nowMs: number) {
    // The first reason stands: numbers that change with every probe would be reported with every probe.
    withdrawal ??= reason;
    unwellAtMs = nowMs;
  }

  return {
    get withdrawal() {
      return withdrawal;
    },
    probeSent(lagMs) {
      probes++;
      lagSumMs += lagMs;
    },
    counted(probed, timingOut, nowMs) {
      // The quiet while begins when it ends, whenever it was looked at last.
      if (silent) unwellAtMs = nowMs;
      silent = timingOut >= FEWEST_TIMING_OUT && timingOut > probed / 2;
      if (silent) unwell(`${timingOut} of ${probed} servers time out at once`, nowMs);
    },
    check(nowMs) {
      const lagMs = probes === 0 ? 0 : lagSumMs / probes;
      probes = 0;
      lagSumMs = 0;
      if (lagMs > lagLimitMs) unwell(`its probes go out ${Math.round(lagMs)} ms late`, nowMs);
      else if (silent) unwellAtMs = nowMs;
      else if (nowMs - unwellAtMs >= wellForMs) withdrawal = undefined;
    },
  };
}
