import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { statusError } from "../../../common/rpc/status.ts";
import { timestampFromMs } from "../../../common/time.ts";
import {
  type ConferenceSchema,
  Conference_State as State,
} from "../../../proto/gen/convoke/v1/conference_pb.js";
import {
  DispatchEvent_Cause as Cause,
  ConferenceService,
  type WatchDispatchesResponseSchema,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { createFakeClock, type FakeClock } from "../../../test/support/fake-clock.ts";
import { createLoopbackDriver, type LoopbackDriver } from "../drivers/loopback.ts";
import { createHostedConferences, type HostedConferences } from "../hosted.ts";
import { CONFIRM_TIMEOUT_MS } from "./check-unconfirmed.ts";
import { runReconcile } from "./reconcile.ts";
import { EXPIRY_SLACK_MS, FOLLOWED_EXPIRY_SLACK_MS } from "./stop-expired.ts";

type Message = MessageInitShape<typeof WatchDispatchesResponseSchema>;

/** A dispatch table whose watches the test plays by hand. */
interface Table {
  /** The revision each watch was asked to resume from. */
  readonly watches: bigint[];
  send(message: Message): void;
  /** Ends the watch that is open. */
  end(code: Code): void;
  /** What GetConference answers; it is UNAVAILABLE when there is no entry. */
  readonly conferences: Map<string, MessageInitShape<typeof ConferenceSchema> | "unknown">;
  readonly asked: string[];
}

const PATIENCE = { timeout: 30_000, interval: 5 };
const logger = pino({ level: "silent" });
const never = new AbortController().signal;
let clock: FakeClock;
let driver: LoopbackDriver;
let hosted: HostedConferences;
let table: Table;
let abort: AbortController;
let finished: Promise<void>;
let connections: number;
let stopBroken: boolean;
let losses: string[];
const LINGER_MS = 2_000;

beforeEach(async () => {
  clock = createFakeClock();
  stopBroken = false;
  connections = 0;
  losses = [];
  const loopback = await createLoopbackDriver({ logger });
  const { stop } = loopback;
  driver = Object.assign(loopback, {
    stop: (id: string, signal: AbortSignal) =>
      stopBroken ? Promise.reject(new Error("broken on purpose")) : stop(id, signal),
  });
  hosted = createHostedConferences({ driver, capacity: 1_000, logger, clock });
  const queue: (Message | Code)[] = [];
  let wake = () => {};
  const watches: bigint[] = [];
  const asked: string[] = [];
  const conferences: Table["conferences"] = new Map();
  table = {
    watches,
    asked,
    conferences,
    send: (message) => {
      queue.push(message);
      wake();
    },
    end: (code) => {
      queue.push(code);
      wake();
    },
  };
  const client = createClient(
    ConferenceService,
    createRouterTransport(({ service }) => {
      service(ConferenceService, {
        async *watchDispatches({ revision }, { signal }) {
          watches.push(revision);
          signal.addEventListener("abort", () => wake());
          while (!signal.aborted) {
            const next = queue.shift();
            if (next === undefined)
              await new Promise<void>((resolve) => {
                wake = resolve;
              });
            else if (typeof next === "number") throw new ConnectError("ended on purpose", next);
            else yield next;
          }
        },
        getConference({ conferenceId }) {
          asked.push(conferenceId);
          const conference = conferences.get(conferenceId);
          if (!conference) throw new ConnectError("away", Code.Unavailable);
          if (conference === "unknown")
            throw statusError(Code.NotFound, ErrorReason.CONFERENCE_NOT_FOUND, "no such conference");
          return { conference };
        },
      });
    }),
  );
  abort = new AbortController();
  finished = runReconcile(
    {
      conferences: client,
      serverId: "s1",
      hosted,
      logger,
      clock,
      moveLingerMs: LINGER_MS,
      onConnected: () => void connections++,
      onLost: (cause) => void losses.push(cause),
    },
    abort.signal,
  );
});

afterEach(async () => {
  abort.abort();
  await finished;
  await driver.close();
  expect(clock.pending).toBe(0);
});

async function host(conferenceId: string, epoch: number) {
  const outcome = await hosted.start({ conferenceId, dispatchEpoch: BigInt(epoch), weight: 1 });
  expect(outcome).toHaveProperty("conference");
}
const row = (type: EventType, conferenceId: string, epoch: number, serverId: string) => ({
  type,
  dispatch: { conferenceId, epoch: BigInt(epoch), serverId },
  cause: type === EventType.PUT ? Cause.PLACED : Cause.ENDED,
});
const put = (id: string, epoch: number, serverId = "s1") => row(EventType.PUT, id, epoch, serverId);
const gone = (id: string, epoch: number) => row(EventType.DELETE, id, epoch, "s1");
const hostedIds = () => hosted.page("", 100).map(({ conferenceId }) => conferenceId);
const rooms = () => ["a", "b", "c"].filter((id) => hosted.get(id));

/** Lets time pass until the condition holds: what waits for answers arms its next timer only after them. */
const inTime = <T>(read: () => T, stepMs = 1_000) =>
  expect.poll(async () => {
    await clock.advance(stepMs);
    return read();
  }, PATIENCE);

describe("following the dispatch table", () => {
  test("stops what is moved or over, and nothing else", async () => {
    for (const id of ["a", "b", "c"]) await host(id, 10);
    table.send({ revision: 20n, events: [put("a", 10), put("b", 10), put("c", 10)] });
    table.send({ revision: 20n });
    table.send({ revision: 22n, events: [put("a", 21, "s2"), gone("b", 10)] });
    await expect.poll(hostedIds, PATIENCE).toEqual(["c"]);
    // What was stopped does not come back under its old epoch.
    expect(await hosted.start({ conferenceId: "a", dispatchEpoch: 10n, weight: 1 })).toHaveProperty(
      "refusal",
    );
  });

  test("resumes after the last revision when the control plane comes back, and rooms go on meanwhile", async () => {
    await host("a", 10);
    table.send({ revision: 20n, events: [put("a", 10)] });
    table.send({ revision: 20n });
    await expect.poll(() => connections, PATIENCE).toBe(1);
    for (let attempt = 0; attempt < 5; attempt++) {
      table.end(Code.Unavailable);
      await clock.advance(10_000);
    }
    table.send({ revision: 21n });
    await inTime(() => connections).toBe(2);
    expect(new Set(table.watches.slice(1))).toEqual(new Set([20n]));
    await clock.advance(CONFIRM_TIMEOUT_MS * 3);
    expect(hostedIds()).toEqual(["a"]);
    expect(table.asked).toEqual([]);
  });

  test("reads the table anew when its revision is no longer kept, and stops what is missing then", async () => {
    for (const id of ["a", "b"]) await host(id, 10);
    table.send({ revision: 20n, events: [put("a", 10), put("b", 10)] });
    table.send({ revision: 20n });
    await expect.poll(() => connections, PATIENCE).toBe(1);
    table.end(Code.Unavailable);
    table.end(Code.OutOfRange);
    table.send({ revision: 0n, events: [put("b", 10)] });
    table.send({ revision: 90n });
    await inTime(hostedIds).toEqual(["b"]);
    expect(table.watches).toEqual([0n, 20n, 0n]);
  });

  test("tries again when the driver cannot stop a room", async () => {
    await host("a", 10);
    stopBroken = true;
    table.send({ revision: 20n, events: [gone("a", 10)] });
    table.send({ revision: 20n });
    await expect.poll(() => connections, PATIENCE).toBe(1);
    await clock.advance(10_000);
    expect(rooms()).toEqual(["a"]);
    stopBroken = false;
    await inTime(rooms).toEqual([]);
  });

  test("leaves a higher epoch alone that took over while the stop was waiting", async () => {
    await host("a", 10);
    stopBroken = true;
    table.send({ revision: 20n, events: [gone("a", 10)] });
    table.send({ revision: 20n });
    await expect.poll(() => connections, PATIENCE).toBe(1);
    await clock.advance(1_000);
    await host("a", 30);
    stopBroken = false;
    await clock.advance(45_000);
    expect(hosted.get("a")?.dispatchEpoch).toBe(30n);
  });
});

describe("a planned move", () => {
  test("lets the room linger, and then stops it", async () => {
    await host("a", 10);
    table.send({ revision: 20n, events: [put("a", 10)] });
    table.send({ revision: 20n });
    await expect.poll(() => connections, PATIENCE).toBe(1);
    const moved = put("a", 21, "s2");
    await host("b", 10);
    table.send({
      revision: 22n,
      events: [
        {
          ...moved,
          dispatch: {
            ...moved.dispatch,
            previousServerId: "s1",
            moveReason: Dispatch_MoveReason.DRAIN,
          },
          cause: Cause.MOVED,
        },
        gone("b", 10),
      ],
    });
    await expect.poll(hostedIds, PATIENCE).toEqual(["a"]);
    await clock.advance(LINGER_MS - 1);
    expect(hostedIds()).toEqual(["a"]);
    await clock.advance(1);
    await expect.poll(hostedIds, PATIENCE).toEqual([]);
  });

  test("is over at once when the conference ends meanwhile", async () => {
    await host("a", 10);
    const moved = { conferenceId: "a", epoch: 21n, serverId: "s2", previousServerId: "s1" };
    table.send({
      revision: 22n,
      events: [{ type: EventType.PUT, dispatch: { ...moved, moveReason: Dispatch_MoveReason.DRAIN } }],
    });
    table.send({ revision: 23n, events: [{ type: EventType.DELETE, dispatch: moved, cause: Cause.ENDED }] });
    await expect.poll(hostedIds, PATIENCE).toEqual([]);
    expect(clock.monotonicMs()).toBe(0);
  });
});

test("the loss of the server is passed on, and stops nothing by itself", async () => {
  await host("a", 10);
  const lost = { ...gone("a", 10), cause: Cause.SERVER_LOST };
  table.send({ revision: 20n, events: [put("a", 10)] });
  table.send({ revision: 21n, events: [lost] });
  await expect.poll(() => losses, PATIENCE).toEqual(["dispatch is void: SERVER_LOST"]);
  await clock.advance(CONFIRM_TIMEOUT_MS);
  expect(hostedIds()).toEqual(["a"]);
});

describe("what may no longer run", () => {
  const HOUR_MS = 3_600_000;
  const until = (ms: number) => timestampFromMs(clock.wallMs() + ms);
  const hostUntil = async (conferenceId: string, ms: number) => {
    const validUntilMs = clock.wallMs() + ms;
    await hosted.start({ conferenceId, dispatchEpoch: 10n, weight: 1, validUntilMs });
  };

  test("is stopped while the control plane is away, after the slack and not before", async () => {
    await hostUntil("a", HOUR_MS);
    await clock.advance(HOUR_MS + EXPIRY_SLACK_MS - 1_000);
    expect(hostedIds()).toEqual(["a"]);
    await clock.advance(1_000);
    await expect.poll(hostedIds, PATIENCE).toEqual([]);
  });

  test("goes on as long as the table's last word gives it", async () => {
    await hostUntil("a", HOUR_MS);
    const extended = { ...put("a", 10).dispatch, validUntil: until(2 * HOUR_MS) };
    table.send({
      revision: 20n,
      events: [{ type: EventType.PUT, dispatch: extended, cause: Cause.UPDATED }],
    });
    table.send({ revision: 20n });
    await expect.poll(() => hosted.get("a")?.validUntilMs, PATIENCE).toBe(clock.wallMs() + 2 * HOUR_MS);
    await clock.advance(2 * HOUR_MS);
    expect(hostedIds()).toEqual(["a"]);
    await clock.advance(EXPIRY_SLACK_MS + 1_000);
    await expect.poll(hostedIds, PATIENCE).toEqual([]);
  });

  test("is left to the control plane for a while when that tells of the table", async () => {
    await hostUntil("a", 0);
    let revision = 20n;
    table.send({ revision, events: [put("a", 10)] });
    table.send({ revision });
    await expect.poll(() => connections, PATIENCE).toBe(1);
    for (let passedMs = 0; passedMs < FOLLOWED_EXPIRY_SLACK_MS; passedMs += 5_000) {
      expect(hostedIds()).toEqual(["a"]);
      table.send({ revision: ++revision });
      await clock.advance(5_000);
    }
    await expect.poll(hostedIds, PATIENCE).toEqual([]);
  });
});

test("what an earlier agent has started and nobody has committed is asked about at once", async () => {
  const room = { conferenceId: "a", dispatchEpoch: 10n, weight: 1, address: "ws://a", startTimeMs: 0 };
  hosted.adopt([room]);
  table.conferences.set("a", { state: State.ENDED });
  table.send({ revision: 20n });
  await expect.poll(() => connections, PATIENCE).toBe(1);
  await clock.advance(CONFIRM_TIMEOUT_MS / 10);
  await expect.poll(hostedIds, PATIENCE).toEqual([]);
});

describe("what was started and never committed", () => {
  const claimed = (epoch: number) => ({ state: State.CLAIMED, claim: { dispatchEpoch: BigInt(epoch) } });
  const following = async () => {
    table.send({ revision: 20n });
    await expect.poll(() => connections, PATIENCE).toBe(1);
  };

  test("is asked about after a minute, not before", async () => {
    await host("a", 10);
    table.conferences.set("a", { state: State.SCHEDULED });
    await following();
    await clock.advance(CONFIRM_TIMEOUT_MS - 1);
    expect(table.asked).toEqual([]);
    await inTime(hostedIds).toEqual([]);
    expect(table.asked).toEqual(["a"]);
  });

  test.each([
    ["its claim is still open", claimed(10), true],
    ["it has been claimed again", claimed(11), false],
    ["it is dispatched here", { state: State.ACTIVE, dispatch: { serverId: "s1", epoch: 10n } }, true],
    ["it is dispatched elsewhere", { state: State.ACTIVE, dispatch: { serverId: "s2", epoch: 11n } }, false],
    ["it is over", { state: State.ENDED }, false],
    ["it has failed", { state: State.FAILED, claim: { dispatchEpoch: 10n } }, false],
    ["it is not known", "unknown" as const, false],
  ])("when %s", async (_, answer, goesOn) => {
    await host("a", 10);
    table.conferences.set("a", answer);
    await following();
    if (goesOn) {
      // It is asked about again only after the first answer has been taken in.
      await inTime(() => table.asked.length, 10_000).toBe(2);
      expect(hostedIds()).toEqual(["a"]);
    } else {
      await inTime(hostedIds, 10_000).toEqual([]);
      expect(table.asked).toEqual(["a"]);
    }
  });

  test("goes on while the control plane gives no answer, and is asked about again", async () => {
    await host("a", 10);
    await following();
    await inTime(() => table.asked.length, 10_000).toBe(3);
    expect(hostedIds()).toEqual(["a"]);
  });

  test("is not asked about where the claim has not been seen yet", async () => {
    await host("a", 21);
    table.conferences.set("a", { state: State.SCHEDULED });
    await following();
    await clock.advance(CONFIRM_TIMEOUT_MS * 2);
    expect(table.asked).toEqual([]);
    table.send({ revision: 21n });
    await inTime(hostedIds).toEqual([]);
  });
});

test("ends with its signal, rooms and all else untouched", async () => {
  await host("a", 10);
  abort.abort();
  await finished;
  expect(hostedIds()).toEqual(["a"]);
  expect((await driver.start({ conferenceId: "a", dispatchEpoch: 10n, weight: 1 }, never)).address).toBe(
    hosted.get("a")?.address,
  );
});
