import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  DispatchEvent_Cause as Cause,
  type DispatchEvent,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import type { Dispatch } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { type Clients, type ControlPlane, openControlPlane, passUntil } from "../support/control-plane.ts";
import { within } from "../support/deadline.ts";
import { answerOf } from "../support/failures.ts";
import {
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
  scheduleMany,
} from "../support/scheduling.ts";

/** Follows the dispatch table until told to stop, resuming now and then from where it was. */
function follow(clients: Clients, resumeEvery: number) {
  const controller = new AbortController();
  const events: DispatchEvent[] = [];
  let revision = 0n;
  const resumed: bigint[] = [];
  const running = (async () => {
    while (!controller.signal.aborted) {
      let messages = 0;
      resumed.push(revision);
      const options = { signal: controller.signal };
      for await (const message of clients.conferences.watchDispatches({ revision }, options)) {
        if (message.revision > 0n) {
          expect(message.revision).toBeGreaterThanOrEqual(revision);
          revision = message.revision;
        }
        events.push(...message.events);
        messages += 1;
        if (revision > 0n && message.events.length > 0 && messages >= resumeEvery) break;
      }
    }
  })().catch((err: unknown) => {
    if (!controller.signal.aborted) throw err;
  });
  return {
    events,
    resumed,
    async reached(target: bigint, beat?: () => Promise<void>) {
      await within(
        `the watch to reach ${target}`,
        (async () => {
          while (revision < target) {
            await beat?.();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        })(),
      );
    },
    async stop() {
      controller.abort();
      await running;
    },
  };
}

/** The table that the events lead to. */
function tableOf(events: readonly DispatchEvent[]): Map<string, Dispatch> {
  const table = new Map<string, Dispatch>();
  for (const { type, dispatch } of events) {
    if (!dispatch) throw new Error("an event without a row");
    if (type === EventType.PUT) table.set(dispatch.conferenceId, dispatch);
    else table.delete(dispatch.conferenceId);
  }
  return table;
}

/** Places what is due, ends and cancels and changes some, and lets a server begin a new life. */
async function churn(plane: ControlPlane, seed: readonly number[]) {
  const dispatcher = await registerDispatcher(plane, "d1", 600_000);
  let life = 0;
  for (const [step, number] of seed.entries()) {
    const server = await registerServer(plane, `s${number % 2}`, {
      instanceId: `life-${number % 2 ? life : 0}`,
    });
    await plane.conferences.createConference({ conference: conference(plane, `c${step}`) });
    const tasks = await fetchAll(plane, dispatcher);
    const dispatches = tasks.map((task) => dispatchOf(task, server));
    if (dispatches.length > 0) await plane.dispatchers.commitDispatches({ ...dispatcher, dispatches });
    const conferenceId = `c${number % (step + 1)}`;
    if (number % 5 === 0) await answerOf(plane.conferences.cancelConference({ conferenceId }));
    if (number % 5 === 1) await answerOf(plane.conferences.endConference({ conferenceId }));
    if (number % 5 === 2)
      await answerOf(
        plane.conferences.updateConference({
          conference: { conferenceId, displayName: `step ${step}` },
          updateMask: { paths: ["display_name"] },
        }),
      );
    if (number % 5 === 3) life += 1;
  }
}

describe("a watch of the dispatch table", () => {
  it("leads to the table as it is read, however often it resumes, and repeats nothing (I7)", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat({ max: 99 }), { minLength: 5, maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        async (seed, resumeEvery) => {
          await using plane = await openControlPlane();
          const watchers = [follow(plane, resumeEvery), follow(plane, Number.POSITIVE_INFINITY)];
          try {
            await churn(plane, seed);
            const { dispatches, revision } = await plane.conferences.listDispatches({ pageSize: 1000 });
            const rows = new Map(dispatches.map((dispatch) => [dispatch.conferenceId, dispatch]));
            for (const watcher of watchers) {
              await watcher.reached(revision, () => plane.clock.advance(11_000));
              expect(tableOf(watcher.events)).toEqual(rows);
            }
            const [resuming, steady] = watchers.map(({ events }) => events.map(keyOf));
            expect(resuming).toEqual(steady);
          } finally {
            await Promise.all(watchers.map((watcher) => watcher.stop()));
          }
        },
      ),
      { numRuns: 8 },
    );
  });

  it("says why each row came and went", async () => {
    await using plane = await openControlPlane();
    const watcher = follow(plane, Number.POSITIVE_INFINITY);
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const server = await registerServer(plane, "s1");
    await scheduleMany(plane, 4);
    const tasks = await fetchAll(plane, dispatcher);
    const dispatches = tasks.map((task) => dispatchOf(task, server));
    await plane.dispatchers.commitDispatches({ ...dispatcher, dispatches });
    await plane.conferences.updateConference({
      conference: { conferenceId: "c-0000", displayName: "x" },
      updateMask: { paths: ["display_name"] },
    });
    await plane.conferences.endConference({ conferenceId: "c-0001" });
    await plane.conferences.cancelConference({ conferenceId: "c-0002" });
    await registerServer(plane, "s1", { instanceId: "second" });
    const { revision } = await plane.conferences.listDispatches({});
    await watcher.reached(revision);
    await watcher.stop();
    const causes = (id: string) =>
      watcher.events.filter(({ dispatch }) => dispatch?.conferenceId === id).map(({ cause }) => cause);
    expect(causes("c-0000")).toEqual([Cause.PLACED, Cause.UPDATED, Cause.SERVER_LOST]);
    expect(causes("c-0001")).toEqual([Cause.PLACED, Cause.ENDED]);
    expect(causes("c-0002")).toEqual([Cause.PLACED, Cause.CANCELLED]);
    expect(causes("c-0003")).toEqual([Cause.PLACED, Cause.SERVER_LOST]);

    const fresh = follow(plane, Number.POSITIVE_INFINITY);
    await fresh.reached(revision);
    await fresh.stop();
    expect(fresh.events).toEqual([]);
  });

  it("tells of progress every 10 s while nothing changes", async () => {
    await using plane = await openControlPlane();
    const client = await plane.connect();
    const controller = new AbortController();
    const messages: number[] = [];
    const watching = (async () => {
      for await (const { events } of client.conferences.watchDispatches({}, { signal: controller.signal })) {
        messages.push(plane.clock.monotonicMs());
        expect(events).toEqual([]);
        if (messages.length === 3) return;
      }
    })();
    await passUntil(plane.clock, watching, 1_000);
    expect((messages[2] ?? 0) - (messages[1] ?? 0)).toBeGreaterThanOrEqual(9_000);
    controller.abort();
  });

  it("goes on after a restart from the newest revision, and is told when its place is gone", async () => {
    await using plane = await openControlPlane();
    await registerServer(plane, "s1");
    const old = (await plane.conferences.listDispatches({})).revision;
    await scheduleMany(plane, 2);
    const { revision } = await plane.conferences.listDispatches({});
    await plane.restart();
    for await (const message of plane.conferences.watchDispatches({ revision })) {
      expect(message).toMatchObject({ revision, events: [] });
      break;
    }
    const next = async () => {
      for await (const _ of plane.conferences.watchDispatches({ revision: old })) return;
    };
    expect(await answerOf(next())).toEqual({
      code: Code.OutOfRange,
      reason: ErrorReason.REVISION_COMPACTED,
    });
  });

  it("tells a caller that comes with a revision of data that was replaced", async () => {
    await using plane = await openControlPlane();
    const { revision } = await plane.conferences.listDispatches({});
    const next = async () => {
      for await (const _ of plane.conferences.watchDispatches({ revision: revision + 1_000n })) return;
    };
    expect(await answerOf(next())).toEqual({
      code: Code.OutOfRange,
      reason: ErrorReason.REVISION_COMPACTED,
    });
  });

  it("sends thousands of rows in parts", async () => {
    await using plane = await openControlPlane();
    const dispatcher = await registerDispatcher(plane, "d1", 600_000);
    const server = await registerServer(plane, "s1", { capacity: 5_000 });
    await scheduleMany(plane, 1_200);
    const tasks = await fetchAll(plane, dispatcher);
    for (let from = 0; from < tasks.length; from += 1_000) {
      const dispatches = tasks.slice(from, from + 1_000).map((task) => dispatchOf(task, server));
      await plane.dispatchers.commitDispatches({ ...dispatcher, dispatches });
    }
    const sizes: number[] = [];
    for await (const { events, revision } of plane.conferences.watchDispatches({})) {
      if (revision > 0n) break;
      expect(events.every(({ cause }) => cause === Cause.EXISTING)).toBe(true);
      sizes.push(events.length);
    }
    expect(sizes).toEqual([500, 500, 200]);
  });
});

describe("a watch of the servers", () => {
  it("sends all there are, then each change", async () => {
    await using plane = await openControlPlane();
    await registerServer(plane, "s1");
    const seen: string[] = [];
    for await (const { events, revision } of plane.servers.watchServers({})) {
      for (const { type, server } of events)
        seen.push(`${EventType[type]} ${server?.serverId} ${server?.incarnation} ${server?.cordoned}`);
      if (seen.length === 1 && revision > 0n) await plane.servers.cordonServer({ serverId: "s1" });
      if (seen.length === 2) await registerServer(plane, "s1", { instanceId: "second" });
      if (seen.length === 3) await plane.servers.removeServer({ serverId: "s1" });
      if (seen.length === 4) break;
    }
    expect(seen).toEqual(["PUT s1 1 false", "PUT s1 1 true", "PUT s1 2 true", "DELETE s1 2 true"]);
  });
});

const keyOf = ({ type, cause, dispatch }: DispatchEvent) =>
  `${EventType[type]} ${Cause[cause]} ${dispatch?.conferenceId}@${dispatch?.epoch}`;
