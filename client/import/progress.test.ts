import { Writable } from "node:stream";
import { expect, it } from "vitest";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createProgress } from "./progress.ts";

function setUp(isTerminal: boolean, total: number | undefined) {
  let text = "";
  const stream = new Writable({
    write(chunk, _, done) {
      text += String(chunk);
      done();
    },
  });
  const clock = createFakeClock();
  return { clock, progress: createProgress({ stream, clock, isTerminal, total }), text: () => text };
}

it("draws a bar over itself on a terminal, not more often than eyes see, and clears it", async () => {
  const { clock, progress, text } = setUp(true, 100);
  progress.add({ created: 10 });
  expect(text()).toBe("");
  await clock.advance(100);
  progress.add({ unchanged: 40 });
  expect(text()).toBe(
    `\r\x1b[K[${"#".repeat(15)}${".".repeat(15)}] 50/100  10 created, 0 updated, 40 unchanged, 0 cancelled`,
  );
  progress.end();
  progress.end();
  expect(text().endsWith("cancelled\r\x1b[K")).toBe(true);
});

it("writes a line from time to time elsewhere", async () => {
  const { clock, progress, text } = setUp(false, undefined);
  for (let second = 0; second < 4; second++) {
    await clock.advance(1_000);
    progress.add({ created: 5, rejected: 1 });
  }
  progress.end();
  expect(text()).toBe(
    "12  10 created, 0 updated, 0 unchanged, 0 cancelled, 2 rejected\n24  20 created, 0 updated, 0 unchanged, 0 cancelled, 4 rejected\n",
  );
});
