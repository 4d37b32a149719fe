import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createProgressLine } from "./progress-line.ts";

function world(isTerminal: boolean) {
  const written: string[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(chunk, _encoding, callback) {
      written.push(String(chunk));
      callback();
    },
  });
  const clock = createFakeClock();
  return { written, clock, progress: createProgressLine({ stream, clock, isTerminal }) };
}

test("a terminal sees a bar that is drawn over, and cleared", () => {
  const { written, progress } = world(true);
  progress.show(0, 4, "none");
  progress.show(2, 4, "half");
  progress.show(0, 0, "nothing to do");
  progress.clear();
  progress.clear();
  const erase = "\r\x1b[K";
  expect(written).toEqual([
    `${erase}[${".".repeat(30)}] 0/4  none`,
    `${erase}[${"#".repeat(15)}${".".repeat(15)}] 2/4  half`,
    `${erase}[${"#".repeat(30)}] 0/0  nothing to do`,
    erase,
  ]);
});

test("a log sees a line now and then, and only when something has changed", async () => {
  const { written, clock, progress } = world(false);
  progress.show(0, 4, "none");
  progress.show(1, 4, "one");
  await clock.advance(5_000);
  progress.show(0, 4, "none");
  progress.show(2, 4, "half");
  progress.clear();
  expect(written).toEqual(["0/4  none\n", "2/4  half\n"]);
});
