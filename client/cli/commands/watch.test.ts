import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import {
  ConferenceService,
  DispatchEvent_Cause,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason, type DispatchSchema } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { createTestCliContext } from "../../../test/support/cli-context.ts";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { InterruptedError } from "../cli-error.ts";
import { runCli } from "../run-cli.ts";

interface Message {
  readonly revision: bigint;
  readonly events: Event[];
}

interface Event {
  readonly type: EventType;
  readonly cause: DispatchEvent_Cause;
  readonly dispatch: MessageInitShape<typeof DispatchSchema> & {
    readonly conferenceId: string;
    readonly serverId: string;
  };
}

function event(conferenceId: string, serverId: string, more: Partial<Event> = {}): Event {
  return {
    type: EventType.PUT,
    cause: DispatchEvent_Cause.PLACED,
    dispatch: { conferenceId, serverId, address: `ws://${serverId}/${conferenceId}` },
    ...more,
  };
}

/**
 * Runs the watch against streams that send these messages and then break with that code; the last one stays open until
 * Ctrl-C, which comes once everything has been printed that is `expected` to be.
 */
async function run(
  args: string,
  streams: readonly { readonly messages: readonly Message[]; readonly code?: Code }[],
  expected: string,
) {
  const asked: bigint[] = [];
  const clock = createFakeClock();
  const cli = createTestCliContext({
    clock,
    transport: createRouterTransport(({ service }) => {
      service(ConferenceService, {
        async *watchDispatches({ revision }, { signal }) {
          const stream = streams[asked.push(revision) - 1];
          yield* stream?.messages ?? [];
          if (stream?.code) throw new ConnectError("broken on purpose", stream.code);
          await new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          });
        },
      });
    }),
  });
  const finished = runCli(cli.context, args.split(" "));
  // It starts over at once where its place is gone, and waits where a stream broke.
  const waits = streams.slice(0, -1).filter(({ code }) => code !== Code.OutOfRange).length;
  for (let broken = 0; broken < waits; broken++) {
    await clock.armed();
    await clock.advance(5_000);
  }
  await cli.written("stdout", expected);
  cli.abort.abort(new InterruptedError("SIGINT"));
  return { exitCode: await finished, stdout: cli.stdout(), stderr: cli.stderr(), asked };
}

const MOVED = [
  {
    messages: [
      { revision: 10n, events: [event("standup", "s1", { cause: DispatchEvent_Cause.EXISTING })] },
      {
        revision: 12n,
        events: [
          event("standup", "s1", { type: EventType.DELETE, cause: DispatchEvent_Cause.SERVER_LOST }),
          event("planning", "s2"),
        ],
      },
      {
        revision: 13n,
        events: [
          event("standup", "s2", {
            cause: DispatchEvent_Cause.MOVED,
            dispatch: {
              epoch: 57n,
              moveReason: Dispatch_MoveReason.SERVER_DOWN,
              conferenceId: "standup",
              serverId: "s2",
              address: "ws://s2/standup",
              previousServerId: "s1",
            },
          }),
        ],
      },
    ],
  },
];

test("a line for each change, until Ctrl-C", async () => {
  const { exitCode, stdout, stderr } = await run("watch dispatches", MOVED, "ws://s2/standup");
  expect({ exitCode, stderr }).toEqual({ exitCode: 130, stderr: "" });
  expect(`\n${stdout}`).toMatchInlineSnapshot(`
    "
    TIME                  TYPE    CAUSE        CONFERENCE                SERVER        FROM          WHY                EPOCH     ADDRESS
    2030-01-01T00:00:00Z  PUT     EXISTING     standup                   s1            -             -                  0         ws://s1/standup
    2030-01-01T00:00:00Z  DELETE  SERVER_LOST  standup                   s1            -             -                  0         ws://s1/standup
    2030-01-01T00:00:00Z  PUT     PLACED       planning                  s2            -             -                  0         ws://s2/planning
    2030-01-01T00:00:00Z  PUT     MOVED        standup                   s2            s1            server-down        57        ws://s2/standup
    "
  `);
});

test("an object on each line, with the revision it is safe to resume after", async () => {
  const { stdout } = await run("watch dispatches -o json", MOVED, '"revision":"13"');
  const lines = stdout.trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).revision)).toEqual(["10", "10", "12", "13"]);
  expect(lines[1]).toMatchInlineSnapshot(
    `"{"time":"2030-01-01T00:00:00.000Z","revision":"10","type":"EVENT_TYPE_DELETE","dispatch":{"conferenceId":"standup","address":"ws://s1/standup","serverId":"s1"},"cause":"CAUSE_SERVER_LOST"}"`,
  );
});

test("only what was asked for", async () => {
  const { stdout } = await run(
    "watch dispatches --conference standup --server s1,s2 --no-existing -o json",
    MOVED,
    '"revision":"13"',
  );
  expect(stdout.match(/"cause":"\w+"/g)).toEqual(['"cause":"CAUSE_SERVER_LOST"', '"cause":"CAUSE_MOVED"']);
});

test("a move is a change of the server it came from as well", async () => {
  const { stdout } = await run("watch dispatches --server s1 -o json", MOVED, '"revision":"13"');
  expect(stdout.match(/"cause":"\w+"/g)).toEqual([
    '"cause":"CAUSE_EXISTING"',
    '"cause":"CAUSE_SERVER_LOST"',
    '"cause":"CAUSE_MOVED"',
  ]);
});

test("a broken stream is resumed from where it was, and the break is told", async () => {
  const { asked, stdout, stderr } = await run(
    "watch dispatches --from-revision 4",
    [
      { messages: [{ revision: 10n, events: [event("a", "s1")] }], code: Code.Unavailable },
      { messages: [{ revision: 11n, events: [event("b", "s1")] }] },
    ],
    "ws://s1/b",
  );
  expect(asked).toEqual([4n, 10n]);
  expect(stdout.match(/ws:\S+/g)).toEqual(["ws://s1/a", "ws://s1/b"]);
  expect(stderr).toMatch(
    /^warning: cannot reach the control plane at 127\.0\.0\.1:7400; resuming in 0\.\d s\n$/,
  );
});

test("a revision that is no longer kept starts over, and says so", async () => {
  const { asked, stderr } = await run(
    "watch dispatches --from-revision 4",
    [{ messages: [], code: Code.OutOfRange }, { messages: [{ revision: 90n, events: [event("b", "s1")] }] }],
    "ws://s1/b",
  );
  expect(asked).toEqual([4n, 0n]);
  expect(stderr).toContain("warning: changes were missed (broken on purpose): all valid rows follow again\n");
});
