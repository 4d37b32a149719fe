import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { type Change, createChangeLog, WatchLostError } from "./change-log.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Takes `count` changes. */
async function take(changes: AsyncGenerator<Change<string>>, count: number) {
  const taken: string[] = [];
  while (taken.length < count) {
    const { value, done } = await changes.next();
    if (done) break;
    taken.push(`${value.revision}:${value.events.join()}`);
  }
  return taken;
}

describe("a change log", () => {
  it("yields what changed after a revision, then progress, then what changes", async () => {
    const log = createChangeLog<string>(createFakeClock());
    log.append(3n, ["a"]);
    log.append(5n, ["b", "c"]);
    log.progress(6n);
    const { signal } = new AbortController();
    const changes = log.follow(3n, signal);
    expect(await take(changes, 2)).toEqual(["5:b,c", "6:"]);
    const next = take(changes, 1);
    log.append(8n, ["d"]);
    expect(await next).toEqual(["8:d"]);
    expect(await take(log.follow(0n, signal), 4)).toEqual(["3:a", "5:b,c", "8:d", "8:"]);
    expect(await take(log.follow(4n, signal), 1)).toEqual(["5:b,c"]);
  });

  it("tells of progress every 10 s", async () => {
    const clock = createFakeClock();
    const log = createChangeLog<string>(clock);
    log.restart(2n);
    const changes = log.follow(2n, new AbortController().signal);
    expect(await take(changes, 1)).toEqual(["2:"]);
    const next = take(changes, 1);
    log.progress(9n);
    await clock.advance(9_999);
    expect(await Promise.race([next, "nothing yet"])).toBe("nothing yet");
    await clock.advance(1);
    expect(await next).toEqual(["9:"]);
  });

  it("refuses a place that is no longer kept", async () => {
    const log = createChangeLog<string>(createFakeClock(), 3);
    for (let revision = 1n; revision <= 5n; revision++) log.append(revision, ["x"]);
    const { signal } = new AbortController();
    await expect(log.follow(1n, signal).next()).rejects.toMatchObject({ fellBehind: false });
    expect(await take(log.follow(2n, signal), 3)).toEqual(["3:x", "4:x", "5:x"]);
    log.restart(9n);
    await expect(log.follow(8n, signal).next()).rejects.toBeInstanceOf(WatchLostError);
    expect(await take(log.follow(9n, signal), 1)).toEqual(["9:"]);
  });

  it("tells a difference to who saw no more than its beginning, and to nobody else", async () => {
    const log = createChangeLog<string>(createFakeClock());
    log.append(3n, ["a"]);
    const { signal } = new AbortController();
    const follower = log.follow(3n, signal);
    expect(await take(follower, 1)).toEqual(["3:"]);
    log.append(9n, ["b"], 3n);
    expect(await take(follower, 1)).toEqual(["9:b"]);
    expect(await take(log.follow(2n, signal), 2)).toEqual(["3:a", "9:b"]);
    await expect(log.follow(5n, signal).next()).rejects.toMatchObject({ fellBehind: false });
    expect(await take(log.follow(9n, signal), 1)).toEqual(["9:"]);
  });

  it("ends a watcher that fell behind, and keeps the newest change however large", async () => {
    const log = createChangeLog<string>(createFakeClock(), 3);
    log.append(1n, ["x"]);
    const changes = log.follow(0n, new AbortController().signal);
    expect(await take(changes, 1)).toEqual(["1:x"]);
    for (let revision = 2n; revision <= 6n; revision++) log.append(revision, ["x"]);
    await expect(changes.next()).rejects.toMatchObject({ fellBehind: true });
    log.append(7n, Array(10).fill("y"));
    expect((await log.follow(6n, new AbortController().signal).next()).value.events).toHaveLength(10);
  });

  it("passes over what a watcher from another replica has already seen", async () => {
    const log = createChangeLog<string>(createFakeClock());
    log.append(3n, ["a"]);
    const changes = log.follow(5n, new AbortController().signal);
    const next = take(changes, 1);
    await turn();
    log.append(4n, ["seen"]);
    log.append(5n, ["seen"]);
    log.append(6n, ["new"]);
    expect(await next).toEqual(["6:new"]);
  });

  it("ends with its signal, and leaves nothing behind", async () => {
    const clock = createFakeClock();
    const log = createChangeLog<string>(clock);
    const controller = new AbortController();
    const changes = log.follow(0n, controller.signal);
    expect(await take(changes, 1)).toEqual(["0:"]);
    for (let revision = 1n; revision <= 50n; revision++) {
      const next = take(changes, 1);
      log.append(revision, ["x"]);
      await next;
      await turn();
    }
    const last = changes.next();
    await turn();
    expect(getEventListeners(controller.signal, "abort").length).toBeLessThanOrEqual(1);
    controller.abort();
    expect((await last).done).toBe(true);
    expect(clock.pending).toBe(0);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });
});
