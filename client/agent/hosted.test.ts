import { describe, expect, test } from "vitest";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createFakeDriver, createHosting } from "../../test/support/hosting.ts";
import type { RoomRequest } from "./drivers/driver.ts";
import { DRIVER_TIMEOUT_MS, type StartOutcome } from "./hosted.ts";

describe("fencing by dispatch epochs", () => {
  test("the same epoch again gives the same address and starts nothing", async () => {
    let starts = 0;
    const { start, hosted } = createHosting(createFakeDriver(async () => void starts++));
    expect(await start("a", 5)).toBe("fake://a");
    expect(await start("a", 5)).toBe("fake://a");
    expect(starts).toBe(1);
    expect(hosted.unitsInUse).toBe(1);
  });

  test("a higher epoch takes its place, a lower one is refused", async () => {
    const { start, hosted, clock } = createHosting();
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
    const { start, stop, hosted } = createHosting();
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
    const { start, stop } = createHosting();
    expect(await stop("a", 5)).toBe("stopped");
    expect(await start("a", 5)).toBe("DISPATCH_EPOCH_STALE");
  });
});

describe("capacity", () => {
  test("units of all starts, those under way too, never exceed it", async () => {
    const gate = Promise.withResolvers<void>();
    const { start, hosted } = createHosting(createFakeDriver(() => gate.promise));
    const first = start("a", 1, 6);
    const second = start("b", 2, 6);
    expect(await second).toBe("CAPACITY_EXCEEDED");
    gate.resolve();
    await first;
    expect(await start("b", 2, 4)).toBe("fake://b");
    expect(hosted.unitsInUse).toBe(10);
  });

  test("a higher epoch only needs what it takes beyond the one before", async () => {
    const { start, hosted } = createHosting();
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
    const { start, hosted } = createHosting(
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
    const { start, hosted } = createHosting(driver);
    await start("a", 1, 2);
    broken = true;
    expect(await start("a", 2, 5)).toBe("DRIVER_FAILED");
    expect(hosted.get("a")?.dispatchEpoch).toBe(1n);
    expect(hosted.unitsInUse).toBe(2);
    expect(driver.rooms.has("a")).toBe(true);
  });

  test("a failed stop keeps the conference and its fence, and can be repeated", async () => {
    let broken = false;
    const { start, stop, hosted } = createHosting(
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
    const { start, clock } = createHosting(
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
  const { start, hosted } = createHosting();
  for (const id of ["c", "a", "d", "b"]) await start(id, 1);
  const ids = (after: string, limit: number) => hosted.page(after, limit).map((c) => c.conferenceId);
  expect(ids("", 3)).toEqual(["a", "b", "c"]);
  expect(ids("c", 3)).toEqual(["d"]);
});

describe("a fence from the dispatch table", () => {
  const request = (epoch: bigint): RoomRequest => ({ conferenceId: "c1", dispatchEpoch: epoch, weight: 3 });
  const reasonOf = (outcome: StartOutcome) => ("refusal" in outcome ? outcome.refusal.reason : undefined);

  test("refuses late starts, and lets a higher epoch through", async () => {
    const { driver, hosted } = createHosting();
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
    const { hosted } = createHosting(driver);
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
    const { hosted, start } = createHosting(driver);
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
    const { hosted, start, stop } = createHosting();
    await start("a", 5, 4);
    await expect(hosted.clear(() => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    expect(hosted.get("a")?.dispatchEpoch).toBe(5n);
    expect(await stop("a", 5)).toBe("stopped");
    expect(hosted.unitsInUse).toBe(0);
  });
});

describe("conferences of an earlier agent", () => {
  test("are hosted as if started here, fences and capacity included (I2)", async () => {
    const { hosted, start, stop } = createHosting();
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

test("the units that a conference takes follow the table, so that room which others count on is there", async () => {
  const { start, hosted } = createHosting();
  await start("a", 5, 9);
  hosted.update("a", 5n, { validUntilMs: 100, weight: 2 });
  expect(hosted.unitsInUse).toBe(2);
  expect(await start("b", 6, 8)).toBe("fake://b");
  hosted.update("a", 4n, { validUntilMs: 100, weight: 1 });
  expect(hosted.unitsInUse).toBe(10);
});

test("until when a conference may run is taken on for its epoch only, and passed on when it changes", async () => {
  const told: string[] = [];
  const driver = Object.assign(createFakeDriver(), {
    extend: (id: string, ms: number) => void told.push(`${id} ${ms}`),
  });
  const { hosted } = createHosting(driver);
  await hosted.start({ conferenceId: "a", dispatchEpoch: 5n, weight: 1, validUntilMs: 100 });
  hosted.update("a", 5n, { validUntilMs: 100, weight: 1 });
  hosted.update("a", 4n, { validUntilMs: 200, weight: 1 });
  hosted.update("b", 5n, { validUntilMs: 200, weight: 1 });
  expect(hosted.get("a")?.validUntilMs).toBe(100);
  hosted.update("a", 5n, { validUntilMs: 300, weight: 1 });
  expect(hosted.get("a")?.validUntilMs).toBe(300);
  expect(told).toEqual(["a 300"]);
});
