import { pino } from "pino";
import type { Driver } from "../../client/agent/drivers/driver.ts";
import { createHostedConferences, type StartOutcome } from "../../client/agent/hosted.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createFakeClock } from "./fake-clock.ts";

/** A driver whose rooms are entries of a map. */
export interface FakeDriver extends Driver {
  readonly rooms: Map<string, bigint>;
  /** Calls for one conference that came while another of it was under way. */
  readonly overlaps: string[];
}

/** @param step runs before each start and stop takes effect; may wait or throw */
export function createFakeDriver(
  step: (call: "start" | "stop", conferenceId: string, signal: AbortSignal) => Promise<void> = async () => {},
): FakeDriver {
  const rooms = new Map<string, bigint>();
  const busy = new Set<string>();
  const overlaps: string[] = [];
  const alone = async (
    call: "start" | "stop",
    conferenceId: string,
    signal: AbortSignal,
    effect: () => void,
  ) => {
    if (busy.has(conferenceId)) overlaps.push(conferenceId);
    busy.add(conferenceId);
    try {
      await step(call, conferenceId, signal);
      effect();
    } finally {
      busy.delete(conferenceId);
    }
  };
  return {
    name: "fake",
    instanceId: "one",
    ended: new AbortController().signal,
    participantCount: 0,
    rooms,
    overlaps,
    async start({ conferenceId, dispatchEpoch }, signal) {
      await alone("start", conferenceId, signal, () => rooms.set(conferenceId, dispatchEpoch));
      return { address: `fake://${conferenceId}` };
    },
    renew: async () => rooms.clear(),
    stop: (conferenceId, signal) => alone("stop", conferenceId, signal, () => rooms.delete(conferenceId)),
    participants: () => 0,
    healthy: async () => ({ healthy: true }),
    close: async () => {},
  };
}

/** Hosted conferences on a driver, and calls that tell the address or the reason of the refusal. */
export function createHosting(driver = createFakeDriver(), capacity = 10) {
  const clock = createFakeClock();
  const logger = pino({ level: "silent" });
  const hosted = createHostedConferences({ driver, capacity, logger, clock });
  const start = (conferenceId: string, epoch: number, weight = 1) =>
    hosted.start({ conferenceId, dispatchEpoch: BigInt(epoch), weight }).then(tellStart);
  const stop = async (conferenceId: string, epoch: number) => {
    const { refusal } = await hosted.stop(conferenceId, BigInt(epoch));
    return refusal ? ErrorReason[refusal.reason] : "stopped";
  };
  return { driver, clock, hosted, start, stop };
}

function tellStart(outcome: StartOutcome) {
  return "conference" in outcome ? outcome.conference.address : ErrorReason[outcome.refusal.reason];
}
