import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { ConferenceService } from "../proto/gen/convoke/v1/conference_service_pb.js";
import { createFakeClock } from "../test/support/fake-clock.ts";
import { type WatchOptions, watchDispatches } from "./watch.ts";

interface Attempt {
  /** A revision and the conferences of its events. */
  readonly messages: readonly (readonly [bigint, ...string[]])[];
  /** How the stream ends; without it the stream ends well. */
  readonly error?: Code;
}

/** Plays the attempts one after the other, then stays open; tells what was asked for and what came out. */
function play(attempts: readonly Attempt[], options: WatchOptions = {}) {
  const asked: bigint[] = [];
  const abort = new AbortController();
  const clock = createFakeClock();
  const client = createClient(
    ConferenceService,
    createRouterTransport(({ service }) => {
      service(ConferenceService, {
        async *watchDispatches({ revision }) {
          const attempt = attempts[asked.push(revision) - 1];
          if (!attempt) {
            abort.abort(new Error("all attempts played"));
            return;
          }
          for (const [at, ...ids] of attempt.messages)
            yield { revision: at, events: ids.map((conferenceId) => ({ dispatch: { conferenceId } })) };
          if (attempt.error) throw new ConnectError("broken on purpose", attempt.error);
        },
      });
    }),
  );
  const waits: [Code | undefined, number][] = [];
  const updates = watchDispatches(client, {
    signal: abort.signal,
    clock,
    random: () => 0,
    onInterrupted: (error, retryInMs) => {
      waits.push([error?.code, retryInMs]);
      void clock.armed().then(() => clock.advance(retryInMs));
    },
    ...options,
  });
  const told: string[] = [];
  const finished = (async () => {
    for await (const update of updates) {
      told.push(
        update.kind === "restart"
          ? `restart: ${Code[update.cause.code]}`
          : `${update.revision}: ${update.events.map((event) => event.dispatch?.conferenceId).join(" ")}`,
      );
    }
  })();
  return { asked, told, waits, finished };
}

test("a broken stream is resumed after the last revision that was told", async () => {
  const run = play([
    {
      messages: [
        [5n, "a"],
        [6n, "b"],
      ],
      error: Code.Unavailable,
    },
    { messages: [[7n, "c"]], error: Code.ResourceExhausted },
    { messages: [[9n]] },
  ]);
  await expect(run.finished).rejects.toThrow("all attempts played");
  expect(run.asked).toEqual([0n, 6n, 7n, 9n]);
  expect(run.told).toEqual(["5: a", "6: b", "7: c", "9: "]);
});

test("waits grow while nothing comes, and start over once something does", async () => {
  const run = play([
    { messages: [[5n]], error: Code.Unavailable },
    { messages: [], error: Code.Unavailable },
    { messages: [], error: Code.Unavailable },
    { messages: [[6n]] },
  ]);
  await expect(run.finished).rejects.toThrow("all attempts played");
  expect(run.waits).toEqual([
    [Code.Unavailable, 50],
    [Code.Unavailable, 100],
    [Code.Unavailable, 200],
    [undefined, 50],
  ]);
});

test("a revision that is no longer kept starts over, and says so", async () => {
  const run = play([
    { messages: [[5n, "a"]], error: Code.Unavailable },
    { messages: [], error: Code.OutOfRange },
    { messages: [[90n, "a", "b"]] },
  ]);
  await expect(run.finished).rejects.toThrow("all attempts played");
  expect(run.asked).toEqual([0n, 5n, 0n, 90n]);
  expect(run.told).toEqual(["5: a", "restart: OutOfRange", "90: a b"]);
  // It waits for a server that is away and for one that has ended the watch, not before it starts over.
  expect(run.waits.map(([code]) => code)).toEqual([Code.Unavailable, undefined]);
});

test("a first list cut off in the middle starts over, and says so", async () => {
  const run = play([
    { messages: [[0n, "a"]], error: Code.Unavailable },
    {
      messages: [
        [0n, "a"],
        [8n, "b"],
      ],
    },
  ]);
  await expect(run.finished).rejects.toThrow("all attempts played");
  expect(run.told).toEqual(["0: a", "restart: Unavailable", "0: a", "8: b"]);
});

test("a first attempt that fails is the caller's to judge", async () => {
  const run = play([{ messages: [], error: Code.Unavailable }]);
  await expect(run.finished).rejects.toMatchObject({ code: Code.Unavailable });
  expect(run.asked).toEqual([0n]);
});

test("an asked-for revision that is not kept starts over at the first attempt too", async () => {
  const run = play([{ messages: [], error: Code.OutOfRange }, { messages: [[90n, "b"]] }], { revision: 4n });
  await expect(run.finished).rejects.toThrow("all attempts played");
  expect(run.told).toEqual(["restart: OutOfRange", "90: b"]);
});

test("what waiting does not mend ends the watch", async () => {
  const run = play([
    { messages: [[5n, "a"]], error: Code.Unavailable },
    { messages: [], error: Code.PermissionDenied },
  ]);
  await expect(run.finished).rejects.toMatchObject({ code: Code.PermissionDenied });
});
