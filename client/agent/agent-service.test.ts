import { type Client, Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../common/clock.ts";
import { reasonOf } from "../../common/rpc/status.ts";
import { timestampFromMs } from "../../common/time.ts";
import { AgentService, type StartResult } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { BadRequestSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import { createAgentService } from "./agent-service.ts";
import type { DriverHealth } from "./drivers/driver.ts";
import { createLoopbackDriver, type LoopbackDriver } from "./drivers/loopback.ts";
import { createHostedConferences } from "./hosted.ts";

const logger = pino({ level: "silent" });
const CAPACITY = 100;

let driver: LoopbackDriver;
let health: DriverHealth;
let incarnation: bigint;
let renewals: number;
let mayServe: boolean;
/** What keepalives were taken to say. */
let beliefs: string[];
let agent: Client<typeof AgentService>;

beforeEach(async () => {
  const loopback = await createLoopbackDriver({ logger });
  health = { healthy: true };
  incarnation = 3n;
  renewals = 0;
  mayServe = true;
  beliefs = [];
  driver = Object.assign(loopback, { healthy: async () => health });
  const service = createAgentService({
    serverId: "s1",
    driver,
    hosted: createHostedConferences({ driver, capacity: CAPACITY, logger, clock: systemClock }),
    registration: {
      get incarnation() {
        return incarnation;
      },
      renew: () => void renewals++,
    },
    isolation: {
      mayServe: () => mayServe,
      heard: () => void beliefs.push("valid"),
      observed: (observer, lost) => void beliefs.push(`valid by ${observer}${lost ? ", lost" : ""}`),
      doubt: (cause) => void beliefs.push(cause),
    },
    logger,
  });
  agent = createClient(
    AgentService,
    createRouterTransport(({ service: mount }) => mount(AgentService, service)),
  );
});

afterEach(() => driver.close());

const validUntil = timestampFromMs(Date.UTC(2030, 0, 1));
const start = (conferenceId: string, epoch = 1, weight = 1) => ({
  conferenceId,
  dispatchEpoch: BigInt(epoch),
  weight,
  validUntil,
});

function tell({ conferenceId, outcome }: StartResult) {
  if (outcome.case === "rejection") return `${conferenceId}: ${ErrorReason[outcome.value.reason]}`;
  return `${conferenceId}: ${outcome.value?.replace(/token=.+/, "token")}`;
}

describe("Keepalive", () => {
  test("tells which life of which server answers, and what it hosts", async () => {
    await agent.startConferences({ incarnation: 3n, starts: [start("a"), start("b")] });
    expect(await agent.keepalive({ dispatcherId: "d1" })).toMatchObject({
      serverId: "s1",
      instanceId: driver.instanceId,
      incarnation: 3n,
      conferenceCount: 2,
      participantCount: 0,
    });
  });

  test("is UNAVAILABLE with the reason while the conference server is not healthy", async () => {
    health = { healthy: false, reason: "no answer on its socket" };
    const error = await agent.keepalive({}).catch((err: unknown) => err);
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(String(error)).toContain("no answer on its socket");
    expect(reasonOf(error)).toBe(ErrorReason.SERVER_UNAVAILABLE);
  });
});

describe("what a keepalive says of the dispatches of this server", () => {
  const down = Server_State.DOWN;
  test.each([
    ["nothing but itself", {}, ["valid"]],
    ["the own incarnation, up", { incarnation: 3n, serverState: Server_State.UP }, ["valid by d1"]],
    ["the own incarnation, suspect", { incarnation: 3n, serverState: Server_State.SUSPECT }, ["valid by d1"]],
    ["the own incarnation, by nobody", { dispatcherId: "", incarnation: 3n }, ["valid"]],
    ["the own incarnation, down", { incarnation: 3n, serverState: down }, ["d1 holds the server to be down"]],
    ["no incarnation, down", { serverState: down }, ["d1 holds the server to be down"]],
    ["a later incarnation", { incarnation: 4n }, ["d1 knows of incarnation 4, and this is 3"]],
    // Its sender lags: it says nothing about this life.
    ["an earlier incarnation", { incarnation: 2n, serverState: Server_State.UP }, []],
    ["an earlier incarnation, down", { incarnation: 2n, serverState: down }, []],
  ])("%s", async (_, request, expected) => {
    await agent.keepalive({ dispatcherId: "d1", ...request });
    expect(beliefs).toEqual(expected);
  });

  test("before the server has registered, any incarnation may be its own", async () => {
    incarnation = 0n;
    await agent.keepalive({ dispatcherId: "d1", incarnation: 9n });
    expect(beliefs).toEqual(["valid"]);
  });

  // Without the control plane there is no benefit of the doubt (I2).
  test.each([
    ["the own incarnation, up", { incarnation: 3n, serverState: Server_State.UP }, ["valid by d1, lost"]],
    ["the own incarnation, down", { incarnation: 3n, serverState: down }, ["d1 holds the server to be down"]],
    ["no incarnation", { serverState: Server_State.UP }, []],
    ["an earlier incarnation", { incarnation: 2n, serverState: Server_State.UP }, []],
    ["a later incarnation", { incarnation: 4n }, ["d1 knows of incarnation 4, and this is 3"]],
    ["the own incarnation, by nobody", { dispatcherId: "", incarnation: 3n }, []],
  ])("by an observer that has lost the control plane: %s", async (_, request, expected) => {
    await agent.keepalive({ dispatcherId: "d1", ...request, controlPlaneLost: true });
    expect(beliefs).toEqual(expected);
  });

  test("by an observer that has lost the control plane, before the server has registered", async () => {
    incarnation = 0n;
    await agent.keepalive({ dispatcherId: "d1", incarnation: 9n, controlPlaneLost: true });
    expect(beliefs).toEqual([]);
  });
});

describe("StartConferences", () => {
  test("is refused while the conferences of before are being ended (I5)", async () => {
    mayServe = false;
    const error = await agent
      .startConferences({ incarnation: 3n, starts: [start("a")] })
      .catch((err: unknown) => err);
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(reasonOf(error)).toBe(ErrorReason.SERVER_UNAVAILABLE);
    expect(driver.participants("a")).toBe(0);
    mayServe = true;
    expect((await agent.keepalive({})).conferenceCount).toBe(0);
  });

  test("gives a result for each in the order given", async () => {
    await agent.startConferences({ incarnation: 3n, starts: [start("b", 5)] });
    const { results } = await agent.startConferences({
      incarnation: 3n,
      starts: [start("c"), start("b", 4), start("big", 1, CAPACITY), start("a")],
    });
    const room = (id: string) => `ws://${driver.address}/rooms/${id}?token`;
    expect(results.map(tell)).toEqual([
      `c: ${room("c")}`,
      "b: DISPATCH_EPOCH_STALE",
      "big: CAPACITY_EXCEEDED",
      `a: ${room("a")}`,
    ]);
  });

  test("takes a thousand at once", async () => {
    const starts = Array.from({ length: 1_000 }, (_, index) => start(`c${index}`));
    const { results } = await agent.startConferences({ incarnation: 3n, starts });
    expect(results.map(({ conferenceId }) => conferenceId)).toEqual(starts.map((s) => s.conferenceId));
    expect(results.filter(({ outcome }) => outcome.case === "address")).toHaveLength(CAPACITY);
  });

  test.each([
    ["an earlier", 2n, 0],
    ["a later", 4n, 1],
  ])("refuses %s incarnation", async (_, asked, expectedRenewals) => {
    const error = await agent
      .startConferences({ incarnation: asked, starts: [start("a")] })
      .catch((err: unknown) => err);
    expect(error).toMatchObject({ code: Code.FailedPrecondition });
    expect(reasonOf(error)).toBe(ErrorReason.INCARNATION_EXPIRED);
    expect(renewals).toBe(expectedRenewals);
    expect((await agent.keepalive({})).conferenceCount).toBe(0);
  });

  test("refuses everything before the server has registered", async () => {
    incarnation = 0n;
    const error = await agent
      .startConferences({ incarnation: 1n, starts: [start("a")] })
      .catch((err: unknown) => err);
    expect(reasonOf(error)).toBe(ErrorReason.INCARNATION_EXPIRED);
  });
});

describe("StopConferences", () => {
  test("stops what is hosted, succeeds with what is not, and leaves higher epochs alone", async () => {
    await agent.startConferences({ incarnation: 3n, starts: [start("a", 5), start("b", 5)] });
    const { results } = await agent.stopConferences({
      stops: [
        { conferenceId: "b", dispatchEpoch: 4n },
        { conferenceId: "a", dispatchEpoch: 5n },
        { conferenceId: "never", dispatchEpoch: 1n },
      ],
    });
    expect(results.map((r) => [r.conferenceId, r.rejection && ErrorReason[r.rejection.reason]])).toEqual([
      ["b", "DISPATCH_EPOCH_STALE"],
      ["a", undefined],
      ["never", undefined],
    ]);
    const { conferences } = await agent.listHostedConferences({});
    expect(conferences.map((c) => c.conferenceId)).toEqual(["b"]);
  });
});

describe("ListHostedConferences", () => {
  test("pages through all in order of IDs", async () => {
    const ids = Array.from({ length: 7 }, (_, index) => `c${index}`);
    await agent.startConferences({ incarnation: 3n, starts: ids.toReversed().map((id) => start(id, 9)) });
    const pages: string[][] = [];
    let pageToken = "";
    do {
      const page = await agent.listHostedConferences({ pageSize: 3, pageToken });
      pages.push(page.conferences.map((c) => c.conferenceId));
      expect(page.conferences[0]).toMatchObject({ dispatchEpoch: 9n, participantCount: 0 });
      pageToken = page.nextPageToken;
    } while (pageToken);
    expect(pages).toEqual([ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)]);
  });

  test("a page that is just full is the last one", async () => {
    await agent.startConferences({ incarnation: 3n, starts: [start("a"), start("b")] });
    expect((await agent.listHostedConferences({ pageSize: 2 })).nextPageToken).toBe("");
  });
});

describe("invalid requests are refused with every field that is wrong", () => {
  const tooMany = Array.from({ length: 1_001 }, (_, index) => start(`c${index}`));
  const cases: [string, () => Promise<unknown>, string[]][] = [
    ["Keepalive", () => agent.keepalive({ dispatcherId: "Not An ID" }), ["dispatcher_id"]],
    ["StartConferences of nothing", () => agent.startConferences({}), ["incarnation", "starts"]],
    [
      "StartConferences",
      () =>
        agent.startConferences({
          incarnation: 3n,
          starts: [
            { conferenceId: "", dispatchEpoch: 0n, weight: 0 },
            start("a", -1, 100_001),
            start("a"),
            { ...start("c"), validUntil: { seconds: 1n << 40n, nanos: 0 } },
          ],
        }),
      [
        "starts[2]",
        "starts[0].conference_id",
        "starts[0].dispatch_epoch",
        "starts[0].weight",
        "starts[0].valid_until",
        "starts[1].dispatch_epoch",
        "starts[1].weight",
        "starts[3].valid_until",
      ],
    ],
    [
      "StartConferences of too many",
      () => agent.startConferences({ incarnation: 3n, starts: tooMany }),
      ["starts"],
    ],
    ["StopConferences of nothing", () => agent.stopConferences({}), ["stops"]],
    [
      "StopConferences",
      () =>
        agent.stopConferences({
          stops: [
            { conferenceId: "A", dispatchEpoch: 0n },
            { conferenceId: "A", dispatchEpoch: 1n },
          ],
        }),
      ["stops[1]", "stops[0].conference_id", "stops[0].dispatch_epoch", "stops[1].conference_id"],
    ],
    [
      "ListHostedConferences",
      () => agent.listHostedConferences({ pageSize: 1_001, pageToken: "made up" }),
      ["page_size", "page_token"],
    ],
    [
      "ListHostedConferences of fewer than none",
      () => agent.listHostedConferences({ pageSize: -1 }),
      ["page_size"],
    ],
  ];
  test.each(cases)("%s", async (_, call, fields) => {
    const error = await call().catch((err: unknown) => err);
    expect(error).toMatchObject({ code: Code.InvalidArgument });
    expect(reasonOf(error)).toBe(ErrorReason.INVALID_FIELD);
    const violations = ConnectError.from(error).findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
    expect(violations.map(({ field }) => field)).toEqual(fields);
    expect((await agent.keepalive({})).conferenceCount).toBe(0);
  });
});
