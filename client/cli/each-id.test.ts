import { expect, test } from "vitest";
import { InterruptedError } from "./cli-error.ts";
import { forEachId } from "./each-id.ts";

const IDS = Array.from({ length: 100 }, (_, index) => `c${index}`);
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test("a bounded number is under way at once, and the results come in the order of the IDs", async () => {
  let underWay = 0;
  let most = 0;
  const results: string[] = [];
  const signal = new AbortController().signal;
  for await (const result of forEachId({ signal }, IDS, "", async (id) => {
    most = Math.max(most, ++underWay);
    // Later ones are done sooner.
    for (let turns = 20 - (Number(id.slice(1)) % 20); turns > 0; turns--) await turn();
    underWay--;
    return id;
  }))
    results.push(result);
  expect(results).toEqual(IDS);
  expect(most).toBe(16);
});

test("none is begun after Ctrl-C", async () => {
  const abort = new AbortController();
  let calls = 0;
  const results = forEachId({ signal: abort.signal }, IDS, "", async (id) => {
    if (++calls === 5) abort.abort(new InterruptedError("SIGINT"));
    return id;
  });
  const readAll = async () => {
    for await (const _ of results);
  };
  await expect(readAll()).rejects.toThrow(InterruptedError);
  expect(calls).toBeLessThanOrEqual(5);
});
