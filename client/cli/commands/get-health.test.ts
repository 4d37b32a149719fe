import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { timestampFromMs } from "../../../common/time.ts";
import { Observation_Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import {
  Server_Health_Cause,
  type Server_HealthSchema,
  Server_State,
} from "../../../proto/gen/convoke/v1/server_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import {
  type CannedControlPlaneOptions,
  createCannedControlPlane,
} from "../../../test/support/cli-control-plane.ts";
import { runCli } from "../run-cli.ts";

/** The fake clock's first instant. */
const NOW_MS = Date.UTC(2030, 0, 1);
const at = (offsetMinutes: number) => timestampFromMs(NOW_MS + offsetMinutes * 60_000);

async function run(args: string, held: CannedControlPlaneOptions) {
  const cli = createTestCliContext({ transport: createCannedControlPlane(held).transport });
  const exitCode = await runCli(cli.context, args.split(" "));
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr() };
}

describe("what is wrong with servers", () => {
  const SICK: CannedControlPlaneOptions = {
    servers: [
      server("s1", Server_State.UP, { cause: Server_Health_Cause.ANSWERS, changeTime: at(-90) }),
      {
        ...server("s2", Server_State.SUSPECT, {
          cause: Server_Health_Cause.HELD_BY_BRAKE,
          changeTime: at(-1),
        }),
        cordoned: true,
        conferenceCount: 163,
        drain: { conferenceCount: 200 },
      },
      {
        ...server("s3", Server_State.DOWN, {
          cause: Server_Health_Cause.DAMPENED,
          changeTime: at(-3),
          holdUntil: at(0.75),
        }),
        cordoned: true,
        drain: { conferenceCount: 9, done: true },
      },
      server("s4", Server_State.SUSPECT, {
        cause: Server_Health_Cause.RESTARTING,
        changeTime: at(0),
        restartDeadline: at(2),
      }),
    ],
    observations: [
      {
        serverId: "s2",
        dispatcherId: "d1",
        incarnation: 2n,
        verdict: Observation_Verdict.TIMEOUT,
        inARow: 3,
        counts: true,
        reportTime: at(-1),
        detail: "no answer\nwithin 750 ms",
      },
      { serverId: "s3", dispatcherId: "d2", verdict: Observation_Verdict.FAILED, inARow: 2 },
    ],
    brake: {
      engaged: true,
      failingServers: 3,
      servers: 4,
      allowedServers: 1,
      heldServerIds: ["s2", "s4"],
      message: "3 of 4 servers fail",
    },
  };

  function server(
    serverId: string,
    state: Server_State,
    health: MessageInitShape<typeof Server_HealthSchema>,
  ) {
    return { serverId, state, health, capacity: 100, agentAddress: `${serverId}:9100` };
  }

  test("is a word, since when and until when; and what the brake holds back stands below", async () => {
    const { exitCode, stdout, stderr } = await run("get servers", SICK);
    expect(exitCode).toBe(0);
    expect(`\n${stdout}`).toMatchInlineSnapshot(`
      "
      ID   STATE     WHY             SINCE   HOLD   CORDON            UNITS   CONFERENCES   REGION   AGENT
      s1   UP        answers         90m     -      -                 0/100   0             -        s1:9100
      s2   SUSPECT   held-by-brake   60s     -      draining 37/200   0/100   163           -        s2:9100
      s3   DOWN      dampened        3m      45s    drained           0/100   0             -        s3:9100
      s4   SUSPECT   restarting      0s      2m     -                 0/100   0             -        s4:9100
      "
    `);
    expect(stderr).toMatchInlineSnapshot(`
      "the brake is engaged: 3 of 4 servers fail and 1 may; not declared DOWN: s2, s4. Look at the network first; when they are really dead, \`convoke release-brake\` lets their conferences move
      "
    `);
  });

  test("is not told beside what programs read", async () => {
    expect((await run("get servers -o json", SICK)).stderr).toBe("");
  });

  test("is told as long as the brake is engaged", async () => {
    const free = { ...SICK, brake: { ...SICK.brake, engaged: false } };
    expect((await run("get servers", free)).stderr).toBe("");
  });

  test("is observed by dispatchers", async () => {
    expect(`\n${(await run("get observations", SICK)).stdout}`).toMatchInlineSnapshot(`
      "
      SERVER   OBSERVER   VERDICT   IN-A-ROW   COUNTS   INCARNATION   AGE   DETAIL
      s2       d1         TIMEOUT   3          yes      2             60s   no answer within 750 ms
      s3       d2         FAILED    2          no       0             -     -
      "
    `);
    const { observations } = JSON.parse((await run("get observations s3 -o json", SICK)).stdout);
    expect(observations).toMatchObject([{ serverId: "s3", dispatcherId: "d2", verdict: "VERDICT_FAILED" }]);
    expect(await run("get observations s1", SICK)).toMatchObject({
      exitCode: 0,
      stderr: "no observations found\n",
    });
    expect(await run("get observations s9", SICK)).toMatchObject({ exitCode: 1, stdout: "" });
  });

  test("may engage the brake", async () => {
    expect(`\n${(await run("get brake", SICK)).stdout}`).toMatchInlineSnapshot(`
      "
      BRAKE     FAILING   ALLOWED   RELEASED-FOR   HELD    MESSAGE
      engaged   3/4       1         -              s2,s4   3 of 4 servers fail
      "
    `);
    const released = { ...SICK, brake: { servers: 4, allowedServers: 1, releasedUntil: at(4) } };
    expect((await run("get brake", released)).stdout).toMatch(/\nreleased +0\/4 +1 +4m +- +-\n$/);
    expect(JSON.parse((await run("get brake -o json", SICK)).stdout)).toMatchObject({ engaged: true });
  });
});
