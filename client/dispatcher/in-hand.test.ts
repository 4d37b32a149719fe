import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { TaskSchema } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createInHand } from "./in-hand.ts";

const task = (conferenceId: string, dispatchEpoch: bigint) =>
  create(TaskSchema, { conferenceId, dispatchEpoch });

describe("tasks in hand", () => {
  it("are admitted once, also when they are sent again after they were finished", async () => {
    const clock = createFakeClock();
    const inHand = createInHand(clock);
    const [a, b] = [task("a", 5n), task("b", 6n)];
    expect(inHand.admit([a, b, a])).toEqual([a, b]);
    expect(inHand.admit([task("a", 5n)])).toEqual([]);
    inHand.finish(a);
    expect(inHand.admit([task("a", 5n), task("a", 4n)])).toEqual([]);
    expect(inHand.size).toBe(1);
    inHand.forget(b);
    expect(inHand.admit([b])).toEqual([b]);
    await clock.advance(31_000);
    expect(inHand.admit([a])).toEqual([a]);
  });

  it("take a conference under a new claim, once the old one is out of hand", () => {
    const inHand = createInHand(createFakeClock());
    const old = task("a", 5n);
    inHand.admit([old]);
    expect(inHand.admit([task("a", 9n)])).toEqual([]);
    inHand.finish(old);
    expect(inHand.admit([task("a", 9n)])).toHaveLength(1);
    inHand.finish(old);
    expect(inHand.size).toBe(1);
  });

  it("say when none are left", async () => {
    const inHand = createInHand(createFakeClock());
    await inHand.empty();
    const one = task("a", 1n);
    inHand.admit([one]);
    let empty = false;
    const waiting = inHand.empty().then(() => {
      empty = true;
    });
    await Promise.resolve();
    expect(empty).toBe(false);
    inHand.finish(one);
    await waiting;
  });
});
