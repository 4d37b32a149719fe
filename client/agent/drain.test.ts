import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { beforeEach, describe, expect, test } from "vitest";
import { durationMs } from "../../common/time.ts";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createFakeClock, type FakeClock } from "../../test/support/fake-clock.ts";
import { forgetDrained, runDrain, untilDrained } from "./drain.ts";

let clock: FakeClock;
let abort: AbortController;
let hosted: { count: number; unitsInUse: number };
let calls: string[];
let complaints: string[];
/** What the control plane answers to each call; throws to refuse it. */
let answer: (call: string) => { cordoned?: boolean; drain?: { done: boolean } };

beforeEach(() => {
  clock = createFakeClock();
  abort = new AbortController();
  hosted = { count: 2, unitsInUse: 5 };
  calls = [];
  complaints = [];
  answer = () => ({});
});

function deps() {
  const told = (call: string) => {
    calls.push(call);
    return { server: { serverId: "s1", ...answer(call.split(" ")[0] ?? "") } };
  };
  const servers = createClient(
    ServerService,
    createRouterTransport(({ service }) =>
      service(ServerService, {
        getServer: () => told("get"),
        drainServer: ({ deadline }) => told(`drain ${deadline && durationMs(deadline)}`),
        removeServer: () => {
          told("remove");
          return {};
        },
        uncordonServer: () => told("uncordon"),
      }),
    ),
  );
  const logger = pino(
    { level: "warn" },
    { write: (line: string) => void complaints.push(String(JSON.parse(line).msg)) },
  );
  return { servers, serverId: "s1", hosted, logger, clock };
}

const drain = (deadlineMs = 0, timeoutMs = 60_000) =>
  runDrain({ ...deps(), deadlineMs, timeoutMs }, abort.signal);
const refuse = (code: Code) => () => {
  throw new ConnectError("on purpose", code);
};
function empty() {
  hosted.count = 0;
  hosted.unitsInUse = 0;
}

describe("a drain before the stop", () => {
  test("is asked for once, and done when nothing is hosted any more", async () => {
    const outcome = drain(30_000);
    await clock.advance(5_000);
    expect(calls).toEqual(["get", "drain 30000"]);
    hosted.count = 0;
    // A start that is under way holds units.
    await clock.advance(1_000);
    expect(clock.pending).toBe(1);
    empty();
    await clock.advance(1_000);
    expect(await outcome).toBe("done");
    expect(complaints).toEqual([]);
  });

  test("tells a server apart that an operator had cordoned before, also when an answer is lost", async () => {
    let tries = 0;
    let cordoned = false;
    answer = (call) => {
      if (call !== "drain") return { cordoned };
      cordoned = true;
      if (++tries === 1) throw new ConnectError("answer lost", Code.Unavailable);
      return {};
    };
    const outcome = drain();
    await clock.advance(3_000);
    empty();
    await clock.advance(1_000);
    expect(await outcome).toBe("done");
    cordoned = true;
    expect(await drain()).toBe("done, was cordoned");
  });

  test("is tried again while the control plane is away, until the time is up", async () => {
    answer = refuse(Code.Unavailable);
    const outcome = drain();
    await clock.advance(59_000);
    expect(calls.length).toBeGreaterThan(10);
    await clock.advance(3_000);
    expect(await outcome).toBe("not done");
    expect(complaints.at(-1)).toBe("could not drain; conferences are left");
  });

  test("is over when the time is up, with a warning", async () => {
    const outcome = drain();
    await clock.advance(60_000);
    expect(await outcome).toBe("not done");
    expect(complaints).toEqual(["drain took too long; conferences are left"]);
  });

  test("ends at once under a control plane that knows no drains", async () => {
    answer = (call) => (call === "drain" ? refuse(Code.Unimplemented)() : {});
    expect(await drain()).toBe("not done");
    expect(complaints).toEqual(["the control plane knows no drains; stopping at once"]);
  });

  test("is not waited for when nothing is hosted and the control plane is away", async () => {
    answer = refuse(Code.Unavailable);
    empty();
    expect(await drain()).toBe("not done");
  });

  test("can be broken off, with a warning", async () => {
    const outcome = drain();
    await clock.advance(1_000);
    abort.abort(new Error("enough"));
    await expect(outcome).rejects.toThrow("enough");
    expect(complaints).toEqual(["drain broken off; conferences are left"]);
    expect(clock.pending).toBe(0);
  });
});

describe("after its drain a server", () => {
  test("is forgotten", async () => {
    await forgetDrained(deps());
    expect(calls).toEqual(["remove"]);
  });

  test("is at least open again when it comes back", async () => {
    answer = (call) => (call === "remove" ? refuse(Code.FailedPrecondition)() : {});
    await forgetDrained(deps());
    expect(calls).toEqual(["remove", "uncordon"]);
  });
});

describe("an operator's drain", () => {
  const watch = (wasOpen = true) => {
    let isOver = false;
    const over = untilDrained({ ...deps(), wasOpen: () => wasOpen }, abort.signal).finally(() => {
      isOver = true;
    });
    over.catch(() => {});
    return { over, isOver: () => isOver };
  };

  test("ends the agent when it is done and nothing is hosted", async () => {
    const { over, isOver } = watch();
    await clock.advance(60_000);
    expect(calls).toEqual([]);
    answer = () => ({ drain: { done: true } });
    await clock.advance(5_000);
    expect(isOver()).toBe(false);
    empty();
    await clock.advance(2_000);
    await over;
  });

  test("is not taken for done while the control plane is away, or says otherwise", async () => {
    empty();
    const { isOver } = watch();
    await clock.advance(10_000);
    answer = () => ({ drain: { done: false } });
    await clock.advance(10_000);
    answer = refuse(Code.Unavailable);
    await clock.advance(10_000);
    expect(isOver()).toBe(false);
    abort.abort(new Error("enough"));
  });

  test("that was done before the agent began does not end it", async () => {
    empty();
    answer = () => ({ drain: { done: true } });
    const { over, isOver } = watch(false);
    await clock.advance(60_000);
    expect(isOver()).toBe(false);
    abort.abort(new Error("enough"));
    await expect(over).rejects.toThrow("enough");
  });
});
