import { describe, expect, test } from "vitest";
import { durationFromMs, timestampFromMs } from "../../../common/time.ts";
import { Conference_State } from "../../../proto/gen/convoke/v1/conference_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import {
  type CannedControlPlaneOptions,
  createCannedControlPlane,
} from "../../../test/support/cli-control-plane.ts";
import { runCli } from "../run-cli.ts";

/** The fake clock's first instant. */
const NOW_MS = Date.UTC(2030, 0, 1);
const at = (offsetMinutes: number) => timestampFromMs(NOW_MS + offsetMinutes * 60_000);

const HELD: CannedControlPlaneOptions = {
  conferences: [
    {
      conferenceId: "planning",
      displayName: "Planning\u001b[31m\n(weekly)",
      startTime: at(60),
      endTime: at(150),
      weight: 250,
      region: "eu",
      state: Conference_State.SCHEDULED,
      createTime: at(-1_440 * 3),
    },
    {
      conferenceId: "standup",
      startTime: at(-5),
      endTime: at(10),
      weight: 12,
      state: Conference_State.ACTIVE,
      dispatch: { conferenceId: "standup", serverId: "s1" },
      createTime: at(-90),
    },
  ],
  dispatches: [
    {
      conferenceId: "standup",
      address: "ws://127.0.0.1:9000/rooms/standup",
      serverId: "s1",
      incarnation: 1n,
      epoch: 41n,
      validUntil: at(40),
      dispatcherId: "d1",
      commitTime: at(-5),
    },
  ],
  dispatchers: [
    {
      dispatcherId: "d1",
      epoch: 7n,
      weight: 1,
      ttl: durationFromMs(5_000),
      registerTime: at(-180),
      labels: { zone: "b", rack: "4" },
    },
    { dispatcherId: "d2", epoch: 9n, weight: 3, ttl: durationFromMs(5_000), registerTime: at(0) },
  ],
  servers: [
    {
      serverId: "s1",
      agentAddress: "127.0.0.1:9100",
      capacity: 500,
      reservedUnits: 12,
      conferenceCount: 1,
      region: "eu",
      driver: "loopback",
      incarnation: 1n,
      state: Server_State.UP,
      cordoned: true,
      registerTime: at(-200),
    },
    {
      serverId: "s2",
      agentAddress: "127.0.0.1:9101",
      capacity: 500,
      driver: "loopback",
      incarnation: 4n,
      state: Server_State.DOWN,
    },
  ],
};

async function run(args: string, held: CannedControlPlaneOptions = HELD) {
  const plane = createCannedControlPlane(held);
  const cli = createTestCliContext({ transport: plane.transport });
  const exitCode = await runCli(cli.context, args.split(" "));
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr(), listed: plane.listed };
}

async function printed(args: string): Promise<string> {
  const { exitCode, stdout, stderr } = await run(args);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  return `\n${stdout}`;
}

test("conferences as a table, with nothing in it that a terminal would obey", async () => {
  expect(await printed("get conferences")).toMatchInlineSnapshot(`
    "
    ID         STATE       START                  LENGTH   WEIGHT   REGION   SERVER   AGE   NAME
    planning   SCHEDULED   2030-01-01T01:00:00Z   90m      250      eu       -        3d    Planning (weekly)
    standup    ACTIVE      2029-12-31T23:55:00Z   15m      12       -        s1       90m   -
    "
  `);
});

test("dispatches as a table", async () => {
  expect(await printed("get dispatches")).toMatchInlineSnapshot(`
    "
    CONFERENCE   SERVER   DISPATCHER   EPOCH   UNTIL                  AGE   ADDRESS
    standup      s1       d1           41      2030-01-01T00:40:00Z   5m    ws://127.0.0.1:9000/rooms/standup
    "
  `);
});

test("dispatchers as a table", async () => {
  expect(await printed("get dispatchers")).toMatchInlineSnapshot(`
    "
    ID   EPOCH   WEIGHT   TTL   AGE   LABELS
    d1   7       1        5s    3h    rack=4,zone=b
    d2   9       3        5s    0s    -
    "
  `);
});

test("servers as a table", async () => {
  expect(await printed("get servers")).toMatchInlineSnapshot(`
    "
    ID   STATE   WHY   SINCE   HOLD   CORDON     UNITS    CONFERENCES   REGION   AGENT
    s1   UP      -     3h      -      cordoned   12/500   1             eu       127.0.0.1:9100
    s2   DOWN    -     -       -      -          0/500    0             -        127.0.0.1:9101
    "
  `);
});

test("servers as a wide table", async () => {
  expect(await printed("get servers -o wide")).toMatchInlineSnapshot(`
    "
    ID   STATE   WHY   SINCE   HOLD   CORDON     UNITS    CONFERENCES   REGION   AGENT            DRIVER     INCARNATION   AGE   FAILURES   LABELS   MESSAGE
    s1   UP      -     3h      -      cordoned   12/500   1             eu       127.0.0.1:9100   loopback   1             3h    0          -        -
    s2   DOWN    -     -       -      -          0/500    0             -        127.0.0.1:9101   loopback   4             -     0          -        -
    "
  `);
});

test("a kind without more columns is as wide as ever", async () => {
  expect(await printed("get dispatchers -o wide")).toBe(await printed("get dispatchers"));
});

test("a list as JSON", async () => {
  const text = await printed("get conferences -o json");
  expect(text).toMatchInlineSnapshot(`
    "
    {
      "conferences": [
        {
          "conferenceId": "planning",
          "displayName": "Planning\\u001b[31m\\n(weekly)",
          "startTime": "2030-01-01T01:00:00Z",
          "endTime": "2030-01-01T02:30:00Z",
          "weight": 250,
          "region": "eu",
          "state": "STATE_SCHEDULED",
          "createTime": "2029-12-29T00:00:00Z"
        },
        {
          "conferenceId": "standup",
          "startTime": "2029-12-31T23:55:00Z",
          "endTime": "2030-01-01T00:10:00Z",
          "weight": 12,
          "state": "STATE_ACTIVE",
          "dispatch": {
            "conferenceId": "standup",
            "serverId": "s1"
          },
          "createTime": "2029-12-31T22:30:00Z"
        }
      ]
    }
    "
  `);
  expect(JSON.parse(text).conferences).toHaveLength(2);
});

test("a list as YAML", async () => {
  expect(await printed("get dispatchers -o yaml")).toMatchInlineSnapshot(`
    "
    dispatchers:
      - dispatcherId: d1
        epoch: "7"
        weight: 1
        labels:
          zone: b
          rack: "4"
        ttl: 5s
        registerTime: 2029-12-31T21:00:00Z
      - dispatcherId: d2
        epoch: "9"
        weight: 3
        ttl: 5s
        registerTime: 2030-01-01T00:00:00Z
    "
  `);
});

test("one by its ID, as the thing itself", async () => {
  expect(await printed("get dispatch standup -o json")).toMatchInlineSnapshot(`
    "
    {
      "conferenceId": "standup",
      "address": "ws://127.0.0.1:9000/rooms/standup",
      "serverId": "s1",
      "incarnation": "1",
      "epoch": "41",
      "validUntil": "2030-01-01T00:40:00Z",
      "dispatcherId": "d1",
      "commitTime": "2029-12-31T23:55:00Z"
    }
    "
  `);
  expect(await printed("get dispatcher d2 -o yaml")).toMatchInlineSnapshot(`
    "
    dispatcherId: d2
    epoch: "9"
    weight: 3
    ttl: 5s
    registerTime: 2030-01-01T00:00:00Z
    "
  `);
});

test("several by their IDs, as a list in the order asked for", async () => {
  const { servers } = JSON.parse(await printed("get servers s2 s1 -o json"));
  expect(servers.map(({ serverId }: { serverId: string }) => serverId)).toEqual(["s2", "s1"]);
});

test("empty lists are a note beside an empty table, and empty lists in JSON and YAML", async () => {
  const held = {};
  expect(await run("get servers", held)).toMatchObject({
    exitCode: 0,
    stdout: "",
    stderr: "no servers found\n",
  });
  const json = await run("get servers -o json", held);
  expect(JSON.parse(json.stdout)).toEqual({ servers: [] });
  expect((await run("get servers -o yaml", held)).stdout).toBe("servers: []\n");
});

describe("what is not there", () => {
  test("is an error that says where to look", async () => {
    expect(await run("get conference nowhere")).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr:
        "error: there is nothing called nowhere\nhint: `convoke get conferences` lists those there are\n",
    });
    expect(await run("get dispatcher d9")).toMatchObject({
      exitCode: 1,
      stderr: "error: there is no dispatcher d9\n",
    });
  });

  test("does not keep back what is", async () => {
    const { exitCode, stdout, stderr } = await run("get servers s1 s9");
    expect(exitCode).toBe(3);
    expect(stdout).toContain("\ns1 ");
    expect(stderr).toBe("error: 1 of 2 done\n  s9: there is nothing called s9\n");
    const json = await run("get servers s1 s9 -o json");
    expect(JSON.parse(json.stdout)).toMatchObject({ servers: [{ serverId: "s1" }] });
  });

  test("is a failure when none of it is", async () => {
    expect(await run("get servers s8 s9")).toMatchObject({ exitCode: 1, stdout: "" });
  });
});

describe("lists", () => {
  const many = {
    conferences: Array.from({ length: 1_203 }, (_, index) => ({
      conferenceId: `c${String(index).padStart(4, "0")}`,
    })),
  };
  const idsIn = (text: string) => text.match(/c\d{4}/g) ?? [];

  test("are read to the end, page by page", async () => {
    const { stdout, listed } = await run("get conferences", many);
    expect(new Set(idsIn(stdout)).size).toBe(1_203);
    expect(listed.map(({ pageToken }) => pageToken)).toEqual(["", "500", "1000"]);
  });

  test("stop at the limit and ask for no more than that", async () => {
    const { stdout, listed } = await run("get conferences --limit 7 -o yaml", many);
    expect(idsIn(stdout)).toHaveLength(7);
    expect(listed.map(({ pageSize }) => pageSize)).toEqual([7]);
  });

  test("are narrowed by the control plane where it can", async () => {
    const { listed } = await run("get conf --state active,FAILED --from now --until +1h --series weekly@a");
    expect(listed[0]).toMatchObject({
      states: [Conference_State.ACTIVE, Conference_State.FAILED],
      startTimeFrom: at(0),
      startTimeUntil: at(60),
      seriesId: "weekly@a",
    });
  });

  test("are narrowed here where it cannot", async () => {
    expect((await run("get conferences --server s1 -o json")).stdout).not.toContain("planning");
    const { servers } = JSON.parse((await run("get servers --state down,suspect -o json")).stdout);
    expect(servers).toMatchObject([{ serverId: "s2" }]);
  });

  test("are not narrowed and picked from at once", async () => {
    expect(await run("get conferences standup --state active")).toMatchObject({
      exitCode: 2,
      stderr: "error: --state narrows a list, and goes without IDs\n",
    });
  });
});
