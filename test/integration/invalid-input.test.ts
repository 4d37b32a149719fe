import { create, type DescMethod, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reasonOf } from "../../common/rpc/status.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { BadRequestSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import { type ControlPlane, openControlPlane } from "../support/control-plane.ts";
import { registerDispatcher, registerServer, scheduleMany } from "../support/scheduling.ts";

/** A request in JSON, and the fields that must be named. */
type Row = readonly [request: JsonValue, ...fields: string[]];

const LONG = "x".repeat(2_000);
const TIMES = { startTime: "2030-01-01T10:00:00Z", endTime: "2030-01-01T11:00:00Z" };
const epoch: Row[] = [
  [{ dispatcherId: "d1" }, "epoch"],
  [{ dispatcherId: "D 1", epoch: "7" }, "dispatcher_id"],
  [{ epoch: "-7" }, "dispatcher_id", "epoch"],
];
const page: Row[] = [
  [{ pageSize: -1 }, "page_size"],
  [{ pageSize: 1001 }, "page_size"],
  [{ pageToken: "not a token!" }, "page_token"],
];
const watch: Row[] = [[{ revision: "-1" }, "revision"]];
const conferenceId: Row[] = [
  [{}, "conference_id"],
  [{ conferenceId: "../x" }, "conference_id"],
  [{ conferenceId: LONG }, "conference_id"],
];
const serverId: Row[] = [
  [{}, "server_id"],
  [{ serverId: "S" }, "server_id"],
];
const window: Row[] = [
  [{ dispatcherId: "d1", epoch: "7", window: "-1s" }, "window"],
  [{ dispatcherId: "d1", epoch: "7", window: "86401s" }, "window"],
];
const batch = (list: string, item: Record<string, JsonValue>) => (items: JsonValue[]) => ({
  dispatcherId: "d1",
  epoch: "7",
  [list]: items.map((given) => ({ ...item, ...(given as Record<string, JsonValue>) })),
});
const dispatches = batch("dispatches", {
  conferenceId: "c-0000",
  dispatchEpoch: "9",
  serverId: "s1",
  incarnation: "1",
  address: "ws://s1/c",
});
const releases = batch("releases", {
  conferenceId: "c-0000",
  dispatchEpoch: "9",
  cause: "CAUSE_NO_CAPACITY",
});
const observations = batch("observations", {
  serverId: "s1",
  incarnation: "1",
  verdict: "VERDICT_OK",
  inARow: 1,
});
const tooMany = (field: string) => Array.from({ length: 1001 }, (_, index) => ({ [field]: `x${index}` }));

/** What is wrong with a conference, with fields relative to it. */
const conferences: [Record<string, JsonValue>, string][] = [
  [{ ...TIMES, conferenceId: "Ü" }, "conference_id"],
  [{ ...TIMES, displayName: LONG }, "display_name"],
  [{ ...TIMES, weight: 100_001 }, "weight"],
  [{ ...TIMES, expectedParticipants: 4_294_967_295 }, "expected_participants"],
  [{ ...TIMES, region: LONG }, "region"],
  [{ ...TIMES, seriesId: LONG }, "series_id"],
  [{ ...TIMES, requiredLabels: { "": "x" } }, "required_labels"],
  [{ ...TIMES, preferredLabels: { a: LONG } }, "preferred_labels[a]"],
  [{ ...TIMES, avoidedLabels: { [LONG]: "x" } }, "avoided_labels"],
];
const schedules: [Record<string, JsonValue>, string][] = [
  [{ endTime: TIMES.endTime }, "start_time"],
  [{ startTime: TIMES.startTime }, "end_time"],
  [{ startTime: TIMES.endTime, endTime: TIMES.startTime }, "end_time"],
  [{ startTime: TIMES.startTime, endTime: TIMES.startTime }, "end_time"],
  [{ startTime: TIMES.startTime, endTime: "2030-02-01T10:00:00Z" }, "end_time"],
];
const SERVER = { serverId: "s2", agentAddress: "127.0.0.1:7500", capacity: 10, instanceId: "i" };

const ROWS: Readonly<Record<string, readonly Row[]>> = {
  "DispatcherService.RegisterDispatcher": [
    [{}, "dispatcher_id"],
    [{ dispatcherId: LONG }, "dispatcher_id"],
    [{ dispatcherId: "d9", ttl: "0.9s" }, "ttl"],
    [{ dispatcherId: "d9", ttl: "601s" }, "ttl"],
    [{ dispatcherId: "d9", weight: 1001 }, "weight"],
    [{ dispatcherId: "d9", labels: { a: LONG } }, "labels[a]"],
    [{ dispatcherId: "", ttl: "-5s", weight: 5000 }, "dispatcher_id", "ttl", "weight"],
  ],
  "DispatcherService.Heartbeat": epoch,
  "DispatcherService.DeregisterDispatcher": epoch,
  "DispatcherService.ListDispatchers": page,
  "DispatcherService.WatchDispatchers": watch,
  "DispatcherService.QueryTotal": [[{}, "dispatcher_id"], ...window.map(withoutEpoch)],
  "DispatcherService.FetchTasks": [
    ...epoch,
    ...window,
    [{ dispatcherId: "d1", epoch: "7", maxTasks: -1 }, "max_tasks"],
    [{ dispatcherId: "d1", epoch: "7", maxTasks: 100_001 }, "max_tasks"],
    [{ dispatcherId: "d1", epoch: "7", wait: "61s" }, "wait"],
    [{ dispatcherId: "d1", epoch: "7", wait: "-0.001s" }, "wait"],
  ],
  "DispatcherService.CommitDispatches": [
    [{ dispatcherId: "d1", dispatches: dispatches([{}]).dispatches ?? [] }, "epoch"],
    [dispatches([]), "dispatches"],
    [dispatches(tooMany("conferenceId")), "dispatches"],
    [dispatches([{}, {}]), "dispatches[1]"],
    [dispatches([{ conferenceId: "" }]), "dispatches[0].conference_id"],
    [dispatches([{ dispatchEpoch: "0" }]), "dispatches[0].dispatch_epoch"],
    [dispatches([{}, { conferenceId: "c-0001", serverId: "no server" }]), "dispatches[1].server_id"],
    [dispatches([{ incarnation: "-1" }]), "dispatches[0].incarnation"],
    [dispatches([{ address: "nowhere" }]), "dispatches[0].address"],
    [dispatches([{ address: `ws://s1/${LONG}${LONG}` }]), "dispatches[0].address"],
  ],
  "DispatcherService.ReleaseTasks": [
    [{ dispatcherId: "d1", releases: releases([{}]).releases ?? [] }, "epoch"],
    [releases([]), "releases"],
    [releases(tooMany("conferenceId")), "releases"],
    [releases([{}, {}]), "releases[1]"],
    [releases([{ conferenceId: "!" }]), "releases[0].conference_id"],
    [releases([{ dispatchEpoch: "0" }]), "releases[0].dispatch_epoch"],
    [releases([{ cause: 0 }]), "releases[0].cause"],
    [releases([{ cause: 77 }]), "releases[0].cause"],
    [releases([{ message: LONG }]), "releases[0].message"],
  ],
  "DispatcherService.ReportObservations": [
    ...epoch,
    [observations(tooMany("serverId")), "observations"],
    [observations([{ serverId: "" }]), "observations[0].server_id"],
    [observations([{ incarnation: "0" }]), "observations[0].incarnation"],
    [observations([{ verdict: 0 }]), "observations[0].verdict"],
    [observations([{ verdict: 4 }]), "observations[0].verdict"],
    [observations([{ inARow: 0 }]), "observations[0].in_a_row"],
    [observations([{ inARow: 1001 }]), "observations[0].in_a_row"],
    [observations([{ detail: LONG }]), "observations[0].detail"],
    [observations([{}, {}]), "observations[1]"],
    [{ ...observations([]), withdrawn: true, withdrawReason: LONG }, "withdraw_reason"],
  ],
  "ConferenceService.CreateConference": [
    [{}, "conference"],
    [{ conference: TIMES, requestId: LONG }, "request_id"],
    ...[...conferences, ...schedules].map(
      ([conference, field]): Row => [{ conference }, `conference.${field}`],
    ),
  ],
  "ConferenceService.BatchCreateConferences": [
    [{}, "requests"],
    [{ requests: tooMany("").map(() => ({ conference: TIMES })) }, "requests"],
    [{ requests: [{ conference: TIMES }], conflictPolicy: 3 }, "conflict_policy"],
    [{ requests: [{ conference: TIMES }, {}] }, "requests[1].conference"],
    [{ requests: [0, 1].map(() => ({ conference: { ...TIMES, conferenceId: "twice" } })) }, "requests[1]"],
    [{ requests: [0, 1].map(() => ({ conference: TIMES, requestId: "twice" })) }, "requests[1]"],
    ...[...conferences, ...schedules].map(
      ([conference, field]): Row => [
        { requests: [{ conference: TIMES }, { conference }] },
        `requests[1].conference.${field}`,
      ],
    ),
  ],
  "ConferenceService.GetConference": conferenceId,
  "ConferenceService.ListConferences": [
    ...page,
    [{ states: [0] }, "states[0]"],
    [{ states: ["STATE_ACTIVE", 9] }, "states[1]"],
    [{ seriesId: LONG }, "series_id"],
  ],
  "ConferenceService.UpdateConference": [
    [{}, "conference"],
    [{ conference: TIMES }, "conference.conference_id"],
    [
      { conference: { ...TIMES, conferenceId: "c-0000" }, updateMask: "conferenceId" },
      "update_mask.paths[0]",
    ],
    [
      { conference: { ...TIMES, conferenceId: "c-0000" }, updateMask: "region,state" },
      "update_mask.paths[1]",
    ],
    ...[...conferences.slice(1), ...schedules].map(
      ([conference, field]): Row => [
        { conference: { ...conference, conferenceId: "c-0000" } },
        `conference.${field}`,
      ],
    ),
  ],
  "ConferenceService.CancelConference": conferenceId,
  "ConferenceService.EndConference": conferenceId,
  "ConferenceService.RequeueConference": conferenceId,
  "ConferenceService.GetDispatch": conferenceId,
  "ConferenceService.ListDispatches": [...page, [{ serverId: "!" }, "server_id"]],
  "ConferenceService.WatchDispatches": watch,
  "ServerService.RegisterServer": [
    [{}, "server"],
    [{ server: { ...SERVER, serverId: "" } }, "server.server_id"],
    [{ server: { ...SERVER, agentAddress: "" } }, "server.agent_address"],
    [{ server: { ...SERVER, agentAddress: "host:0" } }, "server.agent_address"],
    [{ server: { ...SERVER, agentAddress: "http://host:1/" } }, "server.agent_address"],
    [{ server: { ...SERVER, capacity: 0 } }, "server.capacity"],
    [{ server: { ...SERVER, capacity: 1_000_000_001 } }, "server.capacity"],
    [{ server: { ...SERVER, region: LONG } }, "server.region"],
    [{ server: { ...SERVER, labels: { a: LONG } } }, "server.labels[a]"],
    [{ server: { ...SERVER, driver: LONG } }, "server.driver"],
    [{ server: { ...SERVER, instanceId: "" } }, "server.instance_id"],
    [{ server: { ...SERVER, instanceId: LONG } }, "server.instance_id"],
    [{ server: SERVER, restartWithin: "-1s" }, "restart_within"],
    [{ server: SERVER, restartWithin: "300.001s" }, "restart_within"],
  ],
  "ServerService.GetServer": serverId,
  "ServerService.ListServers": page,
  "ServerService.WatchServers": watch,
  "ServerService.CordonServer": serverId,
  "ServerService.UncordonServer": serverId,
  "ServerService.DrainServer": [
    ...serverId,
    [{ serverId: "s1", deadline: "-1s" }, "deadline"],
    [{ serverId: "s1", deadline: "86401s" }, "deadline"],
  ],
  "ServerService.RemoveServer": serverId,
  "ServerService.ListObservations": [
    [{ serverId: "S" }, "server_id"],
    [{ pageSize: 1001 }, "page_size"],
    [{ pageToken: "?" }, "page_token"],
  ],
  "ServerService.GetDetection": [],
  "ServerService.ReleaseBrake": [
    [{ duration: "0s" }, "duration"],
    [{ duration: "0.999s" }, "duration"],
    [{ duration: "3601s" }, "duration"],
  ],
};

function withoutEpoch([request, ...fields]: Row): Row {
  const { epoch: _, ...rest } = request as Record<string, JsonValue>;
  return [rest, ...fields];
}

const SERVICES = [DispatcherService, ConferenceService, ServerService];
const METHODS = SERVICES.flatMap((service) =>
  service.methods.map((method) => ({ name: `${service.name}.${method.name}`, method: method as DescMethod })),
);

describe("invalid input", () => {
  let plane: ControlPlane;
  beforeAll(async () => {
    plane = await openControlPlane();
    await registerServer(plane, "s1");
    await scheduleMany(plane, 2);
    await registerDispatcher(plane, "d1", 600_000);
  });
  afterAll(() => plane[Symbol.asyncDispose]());

  /** Calls a method by its descriptor, as any client could. */
  async function call(method: DescMethod, request: JsonValue): Promise<unknown> {
    const spec = plane.replica.services
      .flatMap(({ methods }) => methods)
      .find((one) => one.method === method);
    const clients = { DispatcherService: plane.dispatchers, ConferenceService: plane.conferences };
    const client = clients[method.parent.name as keyof typeof clients] ?? plane.servers;
    if (!spec) throw new Error(`${method.name} is not mounted`);
    const message = request === null ? create(method.input) : fromJson(method.input, request);
    const answer = (client as unknown as Record<string, (input: unknown) => unknown>)[method.localName]?.(
      message,
    );
    if (spec.kind === "server_streaming") for await (const _ of answer as AsyncIterable<unknown>) break;
    return await answer;
  }

  it("has rows for every call that takes anything", () => {
    expect(Object.keys(ROWS).sort()).toEqual(METHODS.map(({ name }) => name).sort());
    for (const { name, method } of METHODS)
      expect((ROWS[name] ?? []).length > 0, name).toBe(method.input.fields.length > 0);
  });

  describe.each(METHODS.filter(({ method }) => method.input.fields.length > 0))(
    "to $name",
    ({ name, method }) => {
      it.each((ROWS[name] ?? []).map(([request, ...fields]) => ({ request, fields })))(
        "names $fields",
        async ({ request, fields }) => {
          const before = await plane.revision();
          const error = await call(method, request).then(
            () => undefined,
            (err: unknown) => ConnectError.from(err),
          );
          expect(error, "the call succeeded").toBeDefined();
          expect(error).toMatchObject({ code: Code.InvalidArgument });
          expect(reasonOf(error)).toBe(ErrorReason.INVALID_FIELD);
          const violations = error?.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
          expect([...new Set(violations.map(({ field }) => field))]).toEqual(fields);
          for (const { description } of violations) expect(description).not.toBe("");
          expect(await plane.revision()).toBe(before);
        },
      );
    },
  );

  it("is no fault of ours: nothing was complained about", () => {
    expect(plane.complaints).toEqual([]);
  });
});
