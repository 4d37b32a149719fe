import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createFakeClock, type FakeClock } from "../../test/support/fake-clock.ts";
import { createIsolation, DOUBT_MS, type Isolation, type IsolationOptions } from "./isolation.ts";

// What this guards is that no agent hosts what the table has elsewhere for longer than it should (I2).

const LIMIT_MS = 9_000;

let clock: FakeClock;
let abort: AbortController;
let finished: Promise<void>;
let hosted: { count: number };
let asked: number;
let lifeEndings: number;
let endBroken: boolean;
let isolation: Isolation;

function begin(options: Partial<Pick<IsolationOptions, "policy" | "firstMs">> = {}) {
  isolation = createIsolation({
    policy: "stop",
    hosted,
    ask: () => void asked++,
    async endLife() {
      lifeEndings++;
      if (endBroken) throw new Error("broken on purpose");
      hosted.count = 0;
    },
    logger: pino({ level: "silent" }),
    clock,
    ...options,
  });
  if (options.firstMs === undefined) isolation.setLimit(LIMIT_MS);
  finished = isolation.run(abort.signal);
}

beforeEach(() => {
  clock = createFakeClock();
  abort = new AbortController();
  hosted = { count: 3 };
  asked = 0;
  lifeEndings = 0;
  endBroken = false;
});

afterEach(async () => {
  abort.abort();
  await finished;
  expect(clock.pending).toBe(0);
});

describe("when nobody is heard", () => {
  test("the conferences end once the time has passed, and not before", async () => {
    begin();
    await clock.advance(LIMIT_MS - 1);
    expect(isolation.mayServe()).toBe(true);
    expect(lifeEndings).toBe(0);
    await clock.advance(1);
    expect(lifeEndings).toBe(1);
    expect(hosted.count).toBe(0);
    // What is dispatched here from now on is another life's.
    expect(isolation.mayServe()).toBe(true);
  });

  test("the control plane is asked from a third of the time on, again and again", async () => {
    begin();
    await clock.advance(LIMIT_MS / 3 - 1);
    expect(asked).toBe(0);
    await clock.advance(LIMIT_MS / 3);
    expect(asked).toBeGreaterThanOrEqual(3);
  });

  test("any sign of life begins the time anew", async () => {
    begin();
    for (let sign = 0; sign < 5; sign++) {
      await clock.advance(LIMIT_MS - 1);
      isolation.heard();
    }
    expect(lifeEndings).toBe(0);
    expect(isolation.leftMs).toBe(LIMIT_MS);
  });

  test("an answer counts from when its call was sent", async () => {
    begin();
    const sentMs = clock.monotonicMs();
    await clock.advance(LIMIT_MS - 1);
    isolation.confirmed(sentMs);
    await clock.advance(1);
    expect(lifeEndings).toBe(1);
  });

  test("it does not matter while nothing is hosted, and the time begins with the first conference", async () => {
    hosted.count = 0;
    begin();
    await clock.advance(10 * LIMIT_MS);
    expect(asked).toBe(0);
    expect(isolation.mayServe()).toBe(true);
    hosted.count = 1;
    await clock.advance(LIMIT_MS - 1_000);
    expect(lifeEndings).toBe(0);
    await clock.advance(1_000);
    expect(lifeEndings).toBe(1);
  });

  test("what cannot be ended is not served, and is tried again", async () => {
    endBroken = true;
    begin();
    await clock.advance(LIMIT_MS + 5_000);
    expect(lifeEndings).toBeGreaterThan(2);
    isolation.heard();
    isolation.confirmed(clock.monotonicMs());
    expect(isolation.mayServe()).toBe(false);
    endBroken = false;
    await clock.advance(2_000);
    expect(hosted.count).toBe(0);
    expect(isolation.mayServe()).toBe(true);
  });

  test("an adopted conference has no more time than the agent before left it", async () => {
    begin({ firstMs: 1_000 });
    await clock.advance(999);
    expect(lifeEndings).toBe(0);
    await clock.advance(1);
    expect(lifeEndings).toBe(1);
  });
});

describe("after a pause of the process, when the clock has jumped and timers have yet to fire", () => {
  const came: [string, () => void][] = [
    ["a message of a participant", () => {}],
    ["a keepalive", () => isolation.heard()],
    ["an answer to a call of before", () => isolation.confirmed(0)],
    ["a keepalive without the control plane", () => isolation.observed("d1", true)],
  ];
  test.each(came)("nothing is served, and %s from before revives nothing", async (_, come) => {
    let jumpMs = 0;
    const { monotonicMs } = clock;
    clock.monotonicMs = () => monotonicMs() + jumpMs;
    begin();
    isolation.observed("d1", false);
    await clock.armed();
    jumpMs = LIMIT_MS;
    come();
    expect(isolation.mayServe()).toBe(false);
    expect(hosted.count).toBe(3);
    await clock.advance(0);
    expect(hosted.count).toBe(0);
  });
});

describe("while the control plane is away", () => {
  const ALL = ["d1", "d2", "d3"];

  /** The observers that have it, then so many that have lost it, once a second. */
  async function outage({ observers = ALL, holdOn, forMs }: Outage) {
    for (const id of observers) isolation.observed(id, false);
    for (let ms = 0; ms < forMs; ms += 1_000) {
      await clock.advance(1_000);
      for (const id of holdOn) isolation.observed(id, true);
    }
  }
  interface Outage {
    readonly observers?: readonly string[];
    readonly holdOn: readonly string[];
    readonly forMs: number;
  }

  test.each([
    ["all of three", ALL, ALL],
    ["two of three", ALL, ["d1", "d3"]],
    ["both of two", ["d1", "d2"], ["d1", "d2"]],
    ["the only one", ["d1"], ["d1"]],
  ])("the conferences go on for as long as %s observers hold on", async (_, observers, holdOn) => {
    begin();
    await outage({ observers, holdOn, forMs: 20 * LIMIT_MS });
    expect(isolation.mayServe()).toBe(true);
    expect(lifeEndings).toBe(0);
    await clock.advance(LIMIT_MS - 1);
    expect(lifeEndings).toBe(0);
    await clock.advance(1);
    expect(lifeEndings).toBe(1);
  });

  test.each([
    ["one of three observers", ALL, ["d1"]],
    ["one of two observers", ["d1", "d2"], ["d2"]],
    ["two of four observers", [...ALL, "d4"], ["d1", "d2"]],
    ["somebody who never had it, with one of three observers", ALL, ["d1", "x1", "x2", "x3"]],
    ["somebody who never had it", [], ["x1"]],
  ])(
    "they end in time when %s hold on: the others may have moved them (I2)",
    async (_, observers, holdOn) => {
      begin();
      await outage({ observers, holdOn, forMs: LIMIT_MS - 1_000 });
      expect(lifeEndings).toBe(0);
      await clock.advance(1_000);
      expect(lifeEndings).toBe(1);
    },
  );

  test("what one of a majority said counts from then, not from what another says later", async () => {
    begin();
    await outage({ holdOn: ["d1", "d2"], forMs: 5_000 });
    // Now d2 falls silent.
    for (let ms = 0; ms < LIMIT_MS - 1_000; ms += 1_000) {
      await clock.advance(1_000);
      isolation.observed("d1", true);
    }
    expect(lifeEndings).toBe(0);
    await clock.advance(1_000);
    expect(lifeEndings).toBe(1);
  });

  test("one that has it again, or the control plane, counts alone", async () => {
    begin();
    await outage({ holdOn: ["d1"], forMs: LIMIT_MS - 1_000 });
    isolation.observed("d2", false);
    expect(isolation.leftMs).toBe(LIMIT_MS);
    await clock.advance(1_000);
    isolation.confirmed(clock.monotonicMs());
    expect(isolation.leftMs).toBe(LIMIT_MS);
  });

  test("an observer that left before is no longer counted: its silence has the control plane asked, which confirms", async () => {
    begin();
    for (const id of ALL) isolation.observed(id, false);
    for (let ms = 0; ms < LIMIT_MS; ms += 1_000) {
      await clock.advance(1_000);
      isolation.observed("d1", false);
    }
    expect(asked).toBe(0);
    await clock.advance(1_000);
    expect(asked).toBe(1);
    isolation.confirmed(clock.monotonicMs());
    await outage({ observers: ["d1"], holdOn: ["d1"], forMs: 5 * LIMIT_MS });
    expect(lifeEndings).toBe(0);
  });

  test("an observer that left is not forgotten unless the control plane confirms: it may be where that is (I2)", async () => {
    begin();
    for (const id of ALL) isolation.observed(id, false);
    // One whose registration outlives that of the others by far.
    await outage({ observers: ["d1"], holdOn: [], forMs: LIMIT_MS - 1_000 });
    await outage({ observers: ["d1"], holdOn: [], forMs: LIMIT_MS - 1_000 });
    isolation.heard();
    await outage({ observers: ["d1"], holdOn: ["d1"], forMs: LIMIT_MS });
    expect(lifeEndings).toBe(1);
  });

  test("what was said of a life says nothing of the next one (I5)", async () => {
    begin();
    await outage({ holdOn: ALL, forMs: LIMIT_MS });
    isolation.voided("for another reason");
    await clock.advance(0);
    expect(lifeEndings).toBe(1);
    hosted.count = 1;
    for (let ms = 0; ms < LIMIT_MS; ms += 1_000) {
      for (const id of ALL) isolation.observed(id, true);
      await clock.advance(1_000);
    }
    expect(lifeEndings).toBe(2);
  });

  test("a majority that speaks after the time has passed revives nothing (I2)", async () => {
    endBroken = true;
    begin();
    await outage({ holdOn: ALL, forMs: 2_000 });
    await clock.advance(LIMIT_MS);
    for (const id of ALL) isolation.observed(id, true);
    expect(isolation.mayServe()).toBe(false);
    endBroken = false;
    await clock.advance(2_000);
    expect(hosted.count).toBe(0);
  });
});

describe("when an observer holds the server to be down", () => {
  test("the conferences end unless the control plane says that they are valid", async () => {
    begin();
    isolation.doubt("d1 says so");
    expect(asked).toBe(1);
    isolation.heard();
    await clock.advance(DOUBT_MS - 1);
    expect(isolation.mayServe()).toBe(true);
    await clock.advance(1);
    expect(lifeEndings).toBe(1);
  });

  test("an answer of the control plane since then dispels it, one to an earlier call does not", async () => {
    begin();
    await clock.advance(100);
    isolation.doubt("d1 lags");
    isolation.confirmed(0);
    await clock.advance(DOUBT_MS / 2);
    isolation.confirmed(200);
    await clock.advance(DOUBT_MS);
    expect(lifeEndings).toBe(0);
    isolation.doubt("d1 is right");
    isolation.confirmed(clock.monotonicMs() - 1);
    await clock.advance(DOUBT_MS);
    expect(lifeEndings).toBe(1);
  });
});

test("what the control plane holds void ends at once", async () => {
  begin();
  isolation.voided("server is down");
  expect(isolation.mayServe()).toBe(false);
  await clock.advance(0);
  expect(lifeEndings).toBe(1);
});

test("under `keep` everything goes on", async () => {
  begin({ policy: "keep" });
  isolation.doubt("d1 says so");
  isolation.voided("server is down");
  await clock.advance(10 * LIMIT_MS);
  expect(isolation.mayServe()).toBe(true);
  expect(lifeEndings).toBe(0);
  expect(asked).toBeGreaterThan(10);
  isolation.heard();
  expect(isolation.leftMs).toBe(LIMIT_MS);
});
