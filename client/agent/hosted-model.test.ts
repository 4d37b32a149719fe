import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFakeDriver, createHosting } from "../../test/support/hosting.ts";
import type { RoomRequest } from "./drivers/driver.ts";

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
          const { hosted } = createHosting(driver, capacity);
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
