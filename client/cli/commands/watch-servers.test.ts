import { createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { Server_Health_Cause, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { ServerService } from "../../../proto/gen/convoke/v1/server_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { InterruptedError } from "../cli-error.ts";
import { runCli } from "../run-cli.ts";

const server = (serverId: string, cause: Server_Health_Cause, state = Server_State.UP) => ({
  serverId,
  state,
  agentAddress: `${serverId}:9100`,
  incarnation: 1n,
  health: { cause },
});

const MESSAGES = [
  {
    revision: 0n,
    events: [
      { type: EventType.PUT, server: server("s1", Server_Health_Cause.ANSWERS) },
      { type: EventType.PUT, server: server("s2", Server_Health_Cause.REGISTERED) },
    ],
  },
  { revision: 10n, events: [] },
  {
    revision: 12n,
    events: [
      { type: EventType.PUT, server: server("s1", Server_Health_Cause.TIMEOUTS, Server_State.SUSPECT) },
      { type: EventType.PUT, server: { ...server("s2", Server_Health_Cause.REGISTERED), cordoned: true } },
    ],
  },
  {
    revision: 13n,
    events: [{ type: EventType.DELETE, server: server("s2", Server_Health_Cause.REGISTERED) }],
  },
];

/** Runs the watch until the text has been printed, and then presses Ctrl-C. */
async function run(args: string, expected: string) {
  const cli = createTestCliContext({
    transport: createRouterTransport(({ service }) => {
      service(ServerService, {
        async *watchServers(_request, { signal }) {
          yield* MESSAGES;
          await new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          });
        },
      });
    }),
  });
  const finished = runCli(cli.context, args.split(" "));
  await cli.written("stdout", expected);
  cli.abort.abort(new InterruptedError("SIGINT"));
  return { exitCode: await finished, stdout: cli.stdout(), stderr: cli.stderr() };
}

test("a line for each change says what changed and why", async () => {
  const { exitCode, stdout, stderr } = await run("watch servers", "removed");
  expect({ exitCode, stderr }).toEqual({ exitCode: 130, stderr: "" });
  expect(`\n${stdout}`).toMatchInlineSnapshot(`
    "
    TIME                  SERVER        STATE     WHY             CHANGE
    2030-01-01T00:00:00Z  s1            UP        answers         incarnation 1 at s1:9100
    2030-01-01T00:00:00Z  s2            UP        registered      incarnation 1 at s2:9100
    2030-01-01T00:00:00Z  s1            SUSPECT   timeouts        UP → SUSPECT: timeouts
    2030-01-01T00:00:00Z  s2            UP        registered      cordoned
    2030-01-01T00:00:00Z  s2            -         -               removed
    "
  `);
});

test("what was there is compared with, also when it is not printed", async () => {
  const { stdout } = await run("watch servers s1 --no-existing", "SUSPECT");
  expect(stdout.trimEnd().split("\n").slice(1)).toEqual([
    "2030-01-01T00:00:00Z  s1            SUSPECT   timeouts        UP → SUSPECT: timeouts",
  ]);
});

test("an object on each line, with the revision it is safe to resume after", async () => {
  const { stdout } = await run("watch servers -o json", "EVENT_TYPE_DELETE");
  const lines = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.map(({ revision }) => revision)).toEqual(["0", "0", "10", "12", "13"]);
  expect(lines[2]).toMatchObject({
    type: "EVENT_TYPE_PUT",
    server: { serverId: "s1", state: "STATE_SUSPECT", health: { cause: "CAUSE_TIMEOUTS" } },
  });
});
