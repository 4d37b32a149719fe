import fc from "fast-check";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import type { Driver, RoomRequest } from "./drivers/driver.ts";
import { createHostedConferences, DRIVER_TIMEOUT_MS, type StartOutcome } from "./hosted.ts";

interface FakeDriver extends Driver {
  readonly rooms: Map<string, bigint>;
  /** Calls for one conference that came while another of it was under way. */
  readonly overlaps: string[];
}

/** @param step runs before each start and stop takes effect; may wait or throw */
function createFakeDriver(
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

const logger = pino({ level: "silent" });

function setUp(driver = createFakeDriver(), capacity = 10) {
  const clock = createFakeClock();
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

describe("fencing by dispatch epochs", () => {
  test("the same epoch again gives the same address and starts nothing", async () => {
    let starts = 0;
    const { start, hosted } = setUp(createFakeDriver(async () => void starts++));
    expect(await start("a", 5)).toBe("fake://a");
    expect(await start("a", 5)).toBe("fake://a");
    expect(starts).toBe(1);
    expect(hosted.unitsInUse).toBe(1);
  });

  test("a higher epoch takes its place, a lower one is refused", async () => {
    const { start, hosted, clock } = setUp();
    await start("a", 5, 2);
    const before = hosted.get("a");
    await clock.advance(1_000);
    expect(await start("a", 7, 3)).toBe("fake://a");
    expect(hosted.get("a")).toMatchObject({ dispatchEpoch: 7n, weight: 3, epochSinceMs: 1_000 });
    expect(hosted.get("a")?.startTimeMs).toBe(before?.startTimeMs);
    expect(hosted.unitsInUse).toBe(3);
    expect(await start("a", 6)).toBe("DISPATCH_EPOCH_STALE");
    expect(hosted.get("a")?.dispatchEpoch).toBe(7n);
  });

  test("a stop leaves a higher epoch alone and fences off its own", async () => {
    const { start, stop, hosted } = setUp();
    await start("a", 5);
    expect(await stop("a", 4)).toBe("DISPATCH_EPOCH_STALE");
    expect(hosted.count).toBe(1);
    expect(await stop("a", 6)).toBe("stopped");
    expect(hosted.count).toBe(0);
    expect(hosted.unitsInUse).toBe(0);
    expect(await start("a", 5)).toBe("DISPATCH_EPOCH_STALE");
    expect(await start("a", 6)).toBe("DISPATCH_EPOCH_STALE");
    expect(await start("a", 7)).toBe("fake://a");
  });

  test("a stop that overtakes its start keeps the start out", async () => {
    const { start, stop } = setUp();
    expect(await stop("a", 5)).toBe("stopped");
    expect(await start("a", 5)).toBe("DISPATCH_EPOCH_STALE");
  });
});

describe("capacity", () => {
  test("units of all starts, those under way too, never exceed it", async () => {
    const gate = Promise.withResolvers<void>();
    const { start, hosted } = setUp(createFakeDriver(() => gate.promise));
    const first = start("a", 1, 6);
    const second = start("b", 2, 6);
    expect(await second).toBe("CAPACITY_EXCEEDED");
    gate.resolve();
    await first;
    expect(await start("b", 2, 4)).toBe("fake://b");
    expect(hosted.unitsInUse).toBe(10);
  });

  test("a higher epoch only needs what it takes beyond the one before", async () => {
    const { start, hosted } = setUp();
    await start("a", 1, 8);
    expect(await start("a", 2, 10)).toBe("fake://a");
    expect(await start("a", 3, 11)).toBe("CAPACITY_EXCEEDED");
    expect(hosted.get("a")).toMatchObject({ dispatchEpoch: 2n, weight: 10 });
    expect(await start("a", 4, 1)).toBe("fake://a");
    expect(hosted.unitsInUse).toBe(1);
  });
});

describe("a driver that fails", () => {
  test("a failed start holds no units and leaves no room", async () => {
    const rooms = new Set<string>();
    const { start, hosted } = setUp(
      createFakeDriver(async (call, id) => {
        if (call === "stop") return void rooms.delete(id);
        rooms.add(id);
        throw new Error("room made, answer lost");
      }),
    );
    expect(await start("a", 1)).toBe("DRIVER_FAILED");
    expect(hosted.unitsInUse).toBe(0);
    expect(hosted.count).toBe(0);
    expect(rooms.size).toBe(0);
  });

  test("a failed start under a higher epoch leaves what was hosted as it was", async () => {
    let broken = false;
    const driver = createFakeDriver(async () => {
      if (broken) throw new Error("broken");
    });
    const { start, hosted } = setUp(driver);
    await start("a", 1, 2);
    broken = true;
    expect(await start("a", 2, 5)).toBe("DRIVER_FAILED");
    expect(hosted.get("a")?.dispatchEpoch).toBe(1n);
    expect(hosted.unitsInUse).toBe(2);
    expect(driver.rooms.has("a")).toBe(true);
  });

  test("a failed stop keeps the conference and its fence, and can be repeated", async () => {
    let broken = false;
    const { start, stop, hosted } = setUp(
      createFakeDriver(async () => {
        if (broken) throw new Error("broken");
      }),
    );
    await start("a", 1);
    broken = true;
    expect(await stop("a", 1)).toBe("DRIVER_FAILED");
    expect(hosted.count).toBe(1);
    broken = false;
    expect(await start("a", 1)).toBe("DISPATCH_EPOCH_STALE");
    expect(await stop("a", 1)).toBe("stopped");
  });

  test("a driver that does not answer is given up at its deadline", async () => {
    const { start, clock } = setUp(
      createFakeDriver((call, _id, signal) => {
        if (call === "stop") return Promise.resolve();
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      }),
    );
    const outcome = start("a", 1);
    await clock.armed();
    await clock.advance(DRIVER_TIMEOUT_MS);
    expect(await outcome).toBe("DRIVER_FAILED");
    expect(clock.pending).toBe(0);
  });
});

test("pages come in order of IDs", async () => {
  const { start, hosted } = setUp();
  for (const id of ["c", "a", "d", "b"]) await start(id, 1);
  const ids = (after: string, limit: number) => hosted.page(after, limit).map((c) => c.conferenceId);
  expect(ids("", 3)).toEqual(["a", "b", "c"]);
  expect(ids("c", 3)).toEqual(["d"]);
});

describe("any interleaving of starts and stops", () => {
  const conferenceId = fc.constantFrom("a", "b", "c");
  const epoch = fc.integer({ min: 1, max: 8 });
  const call = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("start" as const),
        conferenceId,
        epoch,
        weight: fc.integer({ min: 1, max: 6 }),
        fails: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("stop" as const),
        conferenceId,
        epoch,
        weight: fc.constant(0),
        fails: fc.boolean(),
      }),
    },
  );

  test("never lowers a hosted epoch, revives a stopped one, or exceeds the capacity", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(call, { minLength: 1, maxLength: 25 }),
        fc.scheduler(),
        async (calls, scheduler) => {
          const failing = new Set<string>();
          const driver = createFakeDriver(async (kind, id) => {
            await scheduler.schedule(Promise.resolve(), `driver ${kind} ${id}`);
            if (failing.delete(id)) throw new Error("broken on purpose");
          });
          const capacity = 10;
          const { hosted } = setUp(driver, capacity);
          const stoppedAt = new Map<string, bigint>();
          const highest = new Map<string, bigint>();

          const check = () => {
            let units = 0;
            for (const conference of hosted.all()) {
              const { conferenceId: id, dispatchEpoch } = conference;
              units += conference.weight;
              expect(dispatchEpoch).toBeGreaterThanOrEqual(highest.get(id) ?? 0n);
              highest.set(id, dispatchEpoch);
            }
            expect(units).toBeLessThanOrEqual(hosted.unitsInUse);
            expect(hosted.unitsInUse).toBeLessThanOrEqual(capacity);
          };
          const run = async ({
            kind,
            conferenceId: id,
            epoch: number,
            weight,
            fails,
          }: (typeof calls)[number]) => {
            await scheduler.schedule(Promise.resolve(), `call ${kind} ${id} ${number}`);
            if (fails) failing.add(id);
            const dispatchEpoch = BigInt(number);
            if (kind === "start") {
              const fence = stoppedAt.get(id) ?? 0n;
              const outcome = await hosted.start({
                conferenceId: id,
                dispatchEpoch,
                weight,
              } satisfies RoomRequest);
              if ("conference" in outcome) {
                expect(outcome.conference.dispatchEpoch).toBe(dispatchEpoch);
                expect(dispatchEpoch).toBeGreaterThan(fence);
              }
            } else {
              const { refusal } = await hosted.stop(id, dispatchEpoch);
              if (!refusal && dispatchEpoch > (stoppedAt.get(id) ?? 0n)) stoppedAt.set(id, dispatchEpoch);
            }
            check();
          };
          const all = Promise.all(calls.map(run));
          await scheduler.waitFor(all);

          expect(driver.overlaps).toEqual([]);
          let units = 0;
          for (const conference of hosted.all()) {
            units += conference.weight;
            expect(driver.rooms.get(conference.conferenceId)).toBe(conference.dispatchEpoch);
          }
          expect(hosted.unitsInUse).toBe(units);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("a fence from the dispatch table", () => {
  const request = (epoch: bigint): RoomRequest => ({ conferenceId: "c1", dispatchEpoch: epoch, weight: 3 });
  const reasonOf = (outcome: StartOutcome) => ("refusal" in outcome ? outcome.refusal.reason : undefined);

  function createHosted(driver: Driver) {
    return createHostedConferences({
      driver,
      capacity: 10,
      logger: pino({ level: "silent" }),
      clock: createFakeClock(),
    });
  }

  test("refuses late starts, and lets a higher epoch through", async () => {
    const driver = createFakeDriver();
    const hosted = createHosted(driver);
    hosted.fence("c1", 7n);
    expect(reasonOf(await hosted.start(request(6n)))).toBe(ErrorReason.DISPATCH_EPOCH_STALE);
    expect(reasonOf(await hosted.start(request(7n)))).toBe(ErrorReason.DISPATCH_EPOCH_STALE);
    expect(driver.rooms.size).toBe(0);
    expect(reasonOf(await hosted.start(request(8n)))).toBeUndefined();
    expect(hosted.unitsInUse).toBe(3);
  });

  test("that comes while the driver starts the room leaves none behind", async () => {
    const { promise: go, resolve: release } = Promise.withResolvers<void>();
    const driver = createFakeDriver((call) => (call === "start" ? go : Promise.resolve()));
    const hosted = createHosted(driver);
    const starting = hosted.start(request(5n));
    hosted.fence("c1", 6n);
    release();
    expect(reasonOf(await starting)).toBe(ErrorReason.DISPATCH_EPOCH_STALE);
    expect(driver.rooms.size).toBe(0);
    expect(hosted.count).toBe(0);
    expect(hosted.unitsInUse).toBe(0);
  });
});

describe("another life of the conference server", () => {
  test("empties all and fences it off, with what is being started", async () => {
    const gate = Promise.withResolvers<void>();
    const driver = createFakeDriver(async (call, id) => {
      if (call === "start" && id === "late") await gate.promise;
    });
    const { hosted, start } = setUp(driver);
    await start("a", 5, 4);
    const late = start("late", 6, 3);
    await Promise.resolve();
    let refusal = "";
    await hosted.clear(async () => {
      refusal = await start("b", 8);
      await driver.renew(new AbortController().signal);
    });
    expect(refusal).toBe("SERVER_UNAVAILABLE");
    expect([...hosted.all()]).toEqual([]);
    expect(hosted.unitsInUse).toBe(3);
    gate.resolve();
    expect(await late).toBe("DISPATCH_EPOCH_STALE");
    expect(driver.rooms.size).toBe(0);
    expect(hosted.unitsInUse).toBe(0);
    expect(await start("a", 5)).toBe("DISPATCH_EPOCH_STALE");
    expect(await start("a", 7)).toBe("fake://a");
  });

  test("leaves everything as it was when it cannot begin", async () => {
    const { hosted, start, stop } = setUp();
    await start("a", 5, 4);
    await expect(hosted.clear(() => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    expect(hosted.get("a")?.dispatchEpoch).toBe(5n);
    expect(await stop("a", 5)).toBe("stopped");
    expect(hosted.unitsInUse).toBe(0);
  });
});

describe("conferences of an earlier agent", () => {
  test("are hosted as if started here, fences and capacity included (I2)", async () => {
    const { hosted, start, stop } = setUp();
    const room = { conferenceId: "a", dispatchEpoch: 5n, weight: 7, address: "fake://a", startTimeMs: 9 };
    hosted.adopt([room]);
    expect(hosted.get("a")).toMatchObject({ ...room, adopted: true });
    expect(await start("a", 4)).toBe("DISPATCH_EPOCH_STALE");
    expect(await start("b", 6, 4)).toBe("CAPACITY_EXCEEDED");
    expect(await start("a", 5)).toBe("fake://a");
    expect(await stop("a", 5)).toBe("stopped");
    expect(hosted.unitsInUse).toBe(0);
  });
});

test("until when a conference may run is taken on for its epoch only, and passed on when it changes", async () => {
  const told: string[] = [];
  const driver = Object.assign(createFakeDriver(), {
    extend: (id: string, ms: number) => void told.push(`${id} ${ms}`),
  });
  const { hosted } = setUp(driver);
  await hosted.start({ conferenceId: "a", dispatchEpoch: 5n, weight: 1, validUntilMs: 100 });
  hosted.extend("a", 5n, 100);
  hosted.extend("a", 4n, 200);
  hosted.extend("b", 5n, 200);
  expect(hosted.get("a")?.validUntilMs).toBe(100);
  hosted.extend("a", 5n, 300);
  expect(hosted.get("a")?.validUntilMs).toBe(300);
  expect(told).toEqual(["a 300"]);
});
