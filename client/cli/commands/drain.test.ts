import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { statusError } from "../../../common/rpc/status.ts";
import { durationMs, timestampFromMs } from "../../../common/time.ts";
import { ConferenceService } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_DrainSchema, ServerSchema } from "../../../proto/gen/convoke/v1/server_pb.js";
import { ServerService } from "../../../proto/gen/convoke/v1/server_service_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { InterruptedError } from "../cli-error.ts";
import { runCli } from "../run-cli.ts";

const NOW_MS = Date.UTC(2030, 0, 1);
const notFound = (id: string) =>
  statusError(Code.NotFound, ErrorReason.SERVER_NOT_FOUND, `there is no server ${id}`);

/** A control plane whose servers the test empties. */
function world(servers: readonly { serverId: string; conferenceCount: number }[]) {
  const held = new Map(servers.map((server) => [server.serverId, create(ServerSchema, server)]));
  const asked: string[] = [];
  const state = { unavailable: false };
  const clock = createFakeClock();
  const require = (id: string) => {
    const server = held.get(id);
    if (!server) throw notFound(id);
    return server;
  };
  const transport = createRouterTransport(({ service }) => {
    service(ServerService, {
      drainServer({ serverId, deadline }) {
        const server = require(serverId);
        const deadlineMs = deadline ? durationMs(deadline) : 0;
        asked.push(`${serverId} ${deadlineMs}`);
        server.cordoned = true;
        server.drain = create(Server_DrainSchema, {
          beginTime: timestampFromMs(NOW_MS),
          deadline: timestampFromMs(NOW_MS + deadlineMs),
          conferenceCount: server.conferenceCount,
          done: server.conferenceCount === 0,
        });
        return { server };
      },
      getServer({ serverId }) {
        if (state.unavailable) throw new ConnectError("no connection", Code.Unavailable);
        return { server: require(serverId) };
      },
    });
    service(ConferenceService, {
      listDispatches: ({ serverId, pageSize }) => ({
        dispatches: Array.from(
          { length: Math.min(pageSize, require(serverId).conferenceCount) },
          (_, index) => ({
            conferenceId: ["huge", "moving", "ending"][index] ?? `c${index}`,
          }),
        ),
      }),
      getConference: ({ conferenceId }) => ({
        conference: {
          conferenceId,
          weight: 250,
          startTime: timestampFromMs(NOW_MS - 60_000),
          endTime: timestampFromMs(NOW_MS + (conferenceId === "ending" ? 60_000 : 7_200_000)),
          dispatch: { conferenceId, epoch: 5n },
          claim: { dispatcherId: "d1", dispatchEpoch: conferenceId === "moving" ? 9n : 5n },
          ...(conferenceId === "huge"
            ? { failure: { message: "no server has room", failureTime: timestampFromMs(NOW_MS + 1_000) } }
            : {}),
        },
      }),
    });
  });
  const cli = createTestCliContext({ transport, clock });
  return {
    asked,
    state,
    cli,
    run: (args: string) => runCli(cli.context, args.split(" ")),
    /** Lets the next look find so many conferences left. */
    async leave(id: string, conferenceCount: number, ms = 500) {
      await clock.armed();
      const server = require(id);
      server.conferenceCount = conferenceCount;
      if (server.drain) server.drain.done = conferenceCount === 0;
      await clock.advance(ms);
    },
    async cancel(id: string) {
      await clock.armed();
      const server = require(id);
      server.drain = undefined;
      server.cordoned = false;
      await clock.advance(500);
    },
    async remove(id: string) {
      await clock.armed();
      held.delete(id);
      await clock.advance(500);
    },
    advance: async (ms: number) => {
      await clock.armed();
      await clock.advance(ms);
    },
  };
}

test("waits until every server is drained, and tells how far it is", async () => {
  const plane = world([
    { serverId: "s1", conferenceCount: 200 },
    { serverId: "s2", conferenceCount: 0 },
  ]);
  const finished = plane.run("drain server s1 s2 --deadline 30m");
  await plane.leave("s1", 120, 5_000);
  await plane.leave("s1", 0);
  expect(await finished).toBe(0);
  expect(plane.asked).toEqual(["s1 1800000", "s2 1800000"]);
  expect(plane.cli.stdout()).toBe("server/s2 drained\nserver/s1 drained\n");
  expect(plane.cli.stderr()).toBe(
    "0/200  200 conferences left, 1 of 2 servers done, the rest moves at 2030-01-01T00:30:00Z\n" +
      "80/200  120 conferences left, 1 of 2 servers done, the rest moves at 2030-01-01T00:30:00Z\n",
  );
});

test("does not wait when told so", async () => {
  const plane = world([
    { serverId: "s1", conferenceCount: 3 },
    { serverId: "s2", conferenceCount: 0 },
  ]);
  expect(await plane.run("drain s1 s2 --no-wait")).toBe(0);
  expect(plane.cli.stdout()).toBe("server/s1 draining, 3 conferences\nserver/s2 drained\n");
});

test("prints the servers as they are at the end when asked to", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 2 }]);
  const finished = plane.run("drain s1 -o json");
  await plane.leave("s1", 0);
  expect(await finished).toBe(0);
  expect(JSON.parse(plane.cli.stdout())).toMatchObject({ serverId: "s1", drain: { done: true } });
  expect(plane.cli.stderr()).toBe("");
});

test("Ctrl-C ends the waiting alone, and says so", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 3 }]);
  const finished = plane.run("drain s1");
  await plane.advance(100);
  plane.cli.abort.abort(new InterruptedError("SIGINT"));
  expect(await finished).toBe(130);
  expect(plane.cli.stderr()).toContain(
    "the drain goes on: `convoke get servers s1` tells how far it is, `convoke uncordon s1` cancels it\n",
  );
});

test("a timeout says what is left and why", async () => {
  const plane = world([
    { serverId: "s1", conferenceCount: 7 },
    { serverId: "s2", conferenceCount: 1 },
  ]);
  const finished = plane.run("drain s1 s2 --timeout 5s --deadline 10m");
  await plane.leave("s2", 0, 5_000);
  expect(await finished).toBe(3);
  expect(plane.cli.stdout()).toBe("server/s2 drained\n");
  expect(plane.cli.stderr().split("error: ")[1]).toMatchInlineSnapshot(`
    "1 of 2 servers drained within 5s
      s1: 7 conferences left
        huge: no server has room
        moving: d1 is moving it now
        ending: ends by itself at 2030-01-01T00:01:00Z
        c3, c4, c5, c6: waits for a dispatcher to move it
    hint: the drain goes on: \`convoke get servers s1\` tells how far it is, \`convoke uncordon s1\` cancels it
    "
  `);
});

test("what does not move past the deadline is told once", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 1 }]);
  const finished = plane.run("drain s1");
  await plane.advance(30_000);
  const told = plane.cli.stderr().match(/ {2}huge: no server has room\n/g);
  expect(told).toHaveLength(1);
  await plane.leave("s1", 0);
  expect(await finished).toBe(0);
});

test("a drain that somebody cancels is no success", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 3 }]);
  const finished = plane.run("drain s1");
  await plane.cancel("s1");
  expect(await finished).toBe(1);
  expect(plane.cli.stderr()).toContain(
    "error: 0 of 1 server drained\n  s1: its drain was cancelled; somebody uncordoned it\n",
  );
});

test("a server that is removed meanwhile is empty", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 3 }]);
  const finished = plane.run("drain s1");
  await plane.remove("s1");
  expect(await finished).toBe(0);
  expect(plane.cli.stdout()).toBe("server/s1 drained, and removed since\n");
});

test("a control plane that goes away is waited for", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 3 }]);
  const finished = plane.run("drain s1");
  plane.state.unavailable = true;
  await plane.advance(2_000);
  plane.state.unavailable = false;
  await plane.leave("s1", 0);
  expect(await finished).toBe(0);
  expect(
    plane.cli.stderr().match(/warning: cannot reach the control plane.*; waiting for it\n/g),
  ).toHaveLength(1);
});

test("those that can be drained are, when others cannot", async () => {
  const plane = world([{ serverId: "s1", conferenceCount: 1 }]);
  const finished = plane.run("drain s1 s9");
  await plane.leave("s1", 0);
  expect(await finished).toBe(3);
  expect(plane.cli.stdout()).toBe("server/s1 drained\n");
  expect(plane.cli.stderr()).toContain("error: 1 of 2 servers drained\n  s9: there is no server s9\n");
  expect(await world([]).run("drain s9")).toBe(1);
});
