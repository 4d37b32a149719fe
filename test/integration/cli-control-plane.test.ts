import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { InterruptedError } from "../../client/cli/cli-error.ts";
import { runCli } from "../../client/cli/run-cli.ts";
import { createGrpcTransport, type GrpcTransport } from "../../client/transport/grpc-transport.ts";
import { systemClock } from "../../common/clock.ts";
import { createTestCliContext, createTestClient } from "../support/cli-context.ts";

const LAUNCHER = fileURLToPath(new URL("../../bin/convoke.js", import.meta.url));

let stack: AsyncDisposableStack;
let folder: string;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), "convoke-cli-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
});
afterEach(() => stack.disposeAsync());

/** Runs `convoke serve` on the test's folder until the test ends; resolves once it serves. */
async function serve(listen: string): Promise<{ process: ChildProcess; address: string }> {
  const child = spawn(
    process.execPath,
    [LAUNCHER, "serve", "--listen", listen, "--http", "127.0.0.1:0", "--store", `embedded:${folder}`],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  stack.defer(async () => {
    if (child.exitCode === null && child.signalCode === null && child.kill("SIGKILL"))
      await once(child, "exit");
  });
  const said: string[] = [];
  const lines = createInterface({ input: child.stderr });
  for await (const line of lines) {
    said.push(line);
    const { msg, grpc } = line.startsWith("{") ? JSON.parse(line) : {};
    if (msg !== "serving") continue;
    // The pipe goes on being read, or a full one would stop the process.
    child.stderr.resume();
    return { process: child, address: grpc };
  }
  throw new Error(`convoke serve ended: ${said.join("\n")}`);
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "exit");
}

function connect(address: string): GrpcTransport {
  const transport = createGrpcTransport({ address });
  stack.defer(() => transport.close());
  return transport;
}

async function convoke(transport: GrpcTransport, command: string) {
  const cli = createTestCliContext({ transport, clock: systemClock });
  const exitCode = await runCli(cli.context, command.split(" "));
  return { exitCode, stdout: cli.stdout(), stderr: cli.stderr() };
}

/** Registers a server and a dispatcher, and places everything that is due on it. */
async function placeAll(transport: GrpcTransport): Promise<void> {
  const { servers, dispatchers } = createTestClient(transport);
  const { server } = await servers.registerServer({
    server: {
      serverId: "s1",
      agentAddress: "127.0.0.1:9",
      capacity: 100,
      instanceId: "first",
      driver: "loopback",
    },
  });
  const { dispatcher } = await dispatchers.registerDispatcher({ dispatcherId: "d1" });
  if (!server || !dispatcher) throw new Error("registered nothing");
  const { dispatcherId, epoch } = dispatcher;
  for await (const { tasks } of dispatchers.fetchTasks({ dispatcherId, epoch })) {
    await dispatchers.commitDispatches({
      dispatcherId,
      epoch,
      dispatches: tasks.map(({ conferenceId, dispatchEpoch }) => ({
        conferenceId,
        dispatchEpoch,
        serverId: server.serverId,
        incarnation: server.incarnation,
        address: `ws://127.0.0.1:9/rooms/${conferenceId}`,
      })),
    });
  }
}

test("a conference is created, placed, looked up, ended and refused what it cannot do", async () => {
  const transport = connect((await serve("127.0.0.1:0")).address);
  expect(await convoke(transport, "create conference standup --duration 15m --participants 12")).toEqual({
    exitCode: 0,
    stdout: "conference/standup created\n",
    stderr: "",
  });
  expect((await convoke(transport, "create conference standup --duration 1h")).exitCode).toBe(1);
  expect((await convoke(transport, "create conference Standup --duration 1h")).stderr).toMatch(
    /^error: the control plane refused the request\n {2}conference\.conference_id must be /,
  );
  await placeAll(transport);

  expect(JSON.parse((await convoke(transport, "get dispatch standup -o json")).stdout)).toMatchObject({
    conferenceId: "standup",
    address: "ws://127.0.0.1:9/rooms/standup",
    serverId: "s1",
    dispatcherId: "d1",
  });
  const { conferences } = JSON.parse(
    (await convoke(transport, "get conferences --state active -o json")).stdout,
  );
  expect(conferences).toMatchObject([{ conferenceId: "standup", weight: 12 }]);
  expect((await convoke(transport, "get servers")).stdout).toMatch(/^s1 +UP .* 12\/100 +1 /m);
  expect((await convoke(transport, "cordon s1")).stdout).toBe("server/s1 cordoned\n");
  expect((await convoke(transport, "get servers")).stdout).toMatch(/^s1 +UP .* cordoned /m);

  expect((await convoke(transport, "end conference standup")).stdout).toBe("conference/standup ended\n");
  expect(await convoke(transport, "get dispatch standup")).toMatchObject({ exitCode: 1, stdout: "" });
  expect((await convoke(transport, "cancel standup")).exitCode).toBe(1);
});

test("a watch outlives a control plane killed and started again, and misses nothing", async () => {
  const first = await serve("127.0.0.1:0");
  const transport = connect(first.address);
  await convoke(transport, "create conference before --duration 15m");
  await convoke(transport, "create conference after --duration 15m");
  await placeAll(transport);

  const cli = createTestCliContext({ transport, clock: systemClock });
  const watching = runCli(cli.context, ["watch", "dispatches", "-o", "json"]);
  await cli.written("stdout", '"conferenceId":"before"');
  await cli.written("stdout", '"conferenceId":"after"');
  await convoke(transport, "end before");
  await cli.written("stdout", "CAUSE_ENDED");

  await kill(first.process);
  await cli.written("stderr", "warning: cannot reach the control plane");
  await serve(first.address);
  await convoke(connect(first.address), "cancel after");
  await cli.written("stdout", "CAUSE_CANCELLED");
  cli.abort.abort(new InterruptedError("SIGINT"));
  expect(await watching).toBe(130);

  const events = cli
    .stdout()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(events.map(({ cause, dispatch }) => `${dispatch.conferenceId} ${cause}`)).toEqual([
    "after CAUSE_EXISTING",
    "before CAUSE_EXISTING",
    "before CAUSE_ENDED",
    "after CAUSE_CANCELLED",
  ]);
});
