import { create } from "@bufbuild/protobuf";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../common/clock.ts";
import { DispatchSchema } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { eventually } from "../../../test/support/eventually.ts";
import { createLoopbackDriver, type LoopbackDriver } from "../../agent/drivers/loopback.ts";
import { createParticipant } from "./participant.ts";

describe("participants", () => {
  let stack = new AsyncDisposableStack();
  let drivers: LoopbackDriver[];
  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    drivers = [];
    for (let index = 0; index < 2; index++) {
      const driver = await createLoopbackDriver({ logger: pino({ level: "silent" }) });
      stack.defer(() => driver.close());
      drivers.push(driver);
    }
  });
  afterEach(() => stack.disposeAsync());

  async function roomOn(index: number, epoch: bigint) {
    const driver = drivers[index];
    if (!driver) throw new Error("no such server");
    const start = { conferenceId: "c1" } as Parameters<LoopbackDriver["start"]>[0];
    const { address } = await driver.start(start, AbortSignal.timeout(30_000));
    return create(DispatchSchema, { conferenceId: "c1", address, epoch });
  }

  function pair(lingers: boolean) {
    return [0, 1].map(() => stack.use(createParticipant({ clock: systemClock, lingers })));
  }

  it("go to the new room and hear each other there", async () => {
    const everybody = pair(false);
    const first = await roomOn(0, 1n);
    for (const participant of everybody) participant.placed(first);
    await eventually(() => everybody.map(({ heardInEpoch }) => heardInEpoch)).toEqual([1n, 1n]);
    const second = await roomOn(1, 2n);
    for (const participant of everybody) participant.placed(second);
    await eventually(() => everybody.map(({ heardInEpoch }) => heardInEpoch)).toEqual([2n, 2n]);
    await eventually(() => drivers[0]?.participants("c1")).toBe(0);
    expect(everybody.map(({ oldRooms }) => oldRooms)).toEqual([0, 0]);
  });

  it("come back to a room that was away, and measure the silence", async () => {
    const everybody = pair(false);
    const first = await roomOn(0, 1n);
    for (const participant of everybody) participant.placed(first);
    await eventually(() => everybody.every(({ heardInEpoch }) => heardInEpoch === 1n)).toBe(true);
    await drivers[0]?.stop("c1", AbortSignal.timeout(30_000));
    // Nobody is there until the silence can be told from the pauses of talk.
    await eventually(() => everybody.every(({ longestSilenceMs }) => longestSilenceMs > 300)).toBe(true);
    const second = await roomOn(0, 2n);
    for (const participant of everybody) participant.placed(second);
    await eventually(() => everybody.every(({ heardInEpoch }) => heardInEpoch === 2n)).toBe(true);
    expect(everybody.every(({ longestSilenceMs }) => longestSilenceMs > 300)).toBe(true);
  });

  it("that linger tell when they are cut from the room they have left", async () => {
    const everybody = pair(true);
    const first = await roomOn(0, 1n);
    for (const participant of everybody) participant.placed(first);
    await eventually(() => everybody.every(({ heardInEpoch }) => heardInEpoch === 1n)).toBe(true);
    const second = await roomOn(1, 2n);
    for (const participant of everybody) participant.placed(second);
    await eventually(() => everybody.map(({ oldRooms }) => oldRooms)).toEqual([1, 1]);
    expect(drivers[0]?.participants("c1")).toBe(2);
    expect(everybody.flatMap(({ cutFromOldRoomsAtMs }) => cutFromOldRoomsAtMs)).toEqual([]);
    await drivers[0]?.stop("c1", AbortSignal.timeout(30_000));
    await eventually(() => everybody.map(({ cutFromOldRoomsAtMs }) => cutFromOldRoomsAtMs.length)).toEqual([
      1, 1,
    ]);
  });
});
