import { expect, test } from "vitest";
import { runCli } from "../../client/cli/run-cli.ts";
import { DAMPENING_MS, DAMPENING_RESET_MS } from "../../common/detection-formulas.ts";
import { holdMs, QUIET_MS } from "../../server/health/dampening.ts";
import { createTestCliContext } from "../support/cli-context.ts";
import { type ControlPlane, openControlPlane, passUntil } from "../support/control-plane.ts";
import {
  conference,
  dispatchOf,
  fetchAll,
  registerDispatcher,
  registerServer,
} from "../support/scheduling.ts";

const HOUR_MS = 3_600_000;

/** The command against the real services. */
function begin(plane: ControlPlane, command: string) {
  const { context, stdout, stderr, written } = createTestCliContext({ clock: plane.clock });
  const { dispatchers, conferences, servers } = plane;
  const connect = async () => ({ dispatchers, conferences, servers, close() {}, [Symbol.dispose]() {} });
  const exitCode = runCli({ ...context, connect }, command.split(" "));
  return { exitCode, stdout, stderr, written };
}

async function convoke(plane: ControlPlane, command: string) {
  const { exitCode, stdout, stderr } = begin(plane, command);
  return { exitCode: await exitCode, stdout: stdout(), stderr: stderr() };
}

/** Two servers, and conferences placed on the first. */
async function place(plane: ControlPlane, ids: readonly string[]) {
  const s1 = await registerServer(plane, "s1", { capacity: 10 });
  const dispatcher = await registerDispatcher(plane, "d1", 600_000);
  for (const id of ids) await plane.conferences.createConference({ conference: conference(plane, id) });
  const commit = async (server: typeof s1) => {
    const tasks = await fetchAll(plane, { ...dispatcher, window: { seconds: 3_600n } });
    const dispatches = tasks.map((task) => dispatchOf(task, server));
    if (dispatches.length > 0) await plane.dispatchers.commitDispatches({ ...dispatcher, dispatches });
    return dispatches.length;
  };
  await commit(s1);
  const s2 = await registerServer(plane, "s2", { capacity: 10 });
  return { s2, commit };
}

test("a drain is waited for until its conferences are elsewhere; then the server can be removed", async () => {
  await using plane = await openControlPlane();
  const { s2, commit } = await place(plane, ["a", "b"]);
  expect(await convoke(plane, "remove s1")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("hint: `convoke drain ID` moves what it hosts"),
  });
  const drain = begin(plane, "drain s1");
  await drain.written("stderr", "0/2  2 conferences left\n");
  expect((await convoke(plane, "get servers s1")).stdout).toContain("draining 0/2");
  expect(await commit(s2)).toBe(2);
  expect(await passUntil(plane.clock, drain.exitCode)).toBe(0);
  expect(drain.stdout()).toBe("server/s1 drained\n");
  expect((await convoke(plane, "get servers s1")).stdout).toMatch(/^s1 .* drained /m);
  expect(await convoke(plane, "remove s1")).toMatchObject({ exitCode: 0, stdout: "server/s1 removed\n" });
});

test("uncordon cancels a drain, and says so to both", async () => {
  await using plane = await openControlPlane();
  await place(plane, ["a", "b"]);
  const drain = begin(plane, "drain s1 --deadline 2h");
  await drain.written("stderr", "0/2  2 conferences left, the rest moves at 2030-01-01T02:00:00Z\n");
  expect((await convoke(plane, "uncordon s1")).stdout).toBe(
    "server/s1 uncordoned, its drain is cancelled and 2 conferences stay\n",
  );
  expect(await passUntil(plane.clock, drain.exitCode)).toBe(1);
  expect(drain.stderr()).toContain("s1: its drain was cancelled");
});

test("the brake and the settings are told as they are in force", async () => {
  await using plane = await openControlPlane();
  await place(plane, []);
  expect(JSON.parse((await convoke(plane, "get brake -o json")).stdout)).toMatchObject({ servers: 2 });
  expect((await convoke(plane, "release-brake --for 1h")).stdout).toMatch(
    /^brake released until 2030-01-01T01:00/,
  );
  expect((await convoke(plane, "get brake")).stdout).toMatch(/^released +0\/2 /m);
  await plane.clock.advance(HOUR_MS);
  expect((await convoke(plane, "get brake")).stdout).toMatch(/^ready +0\/2 /m);
  const explained = JSON.parse((await convoke(plane, "config explain -o json")).stdout);
  expect(explained.settings).toEqual(
    JSON.parse((await convoke(plane, "config explain --detection lan -o json")).stdout).settings,
  );
  expect(explained.brake.allowances).toEqual([{ servers: 2, allowed: 1 }]);
});

test("an observation is told with the server that it is of", async () => {
  await using plane = await openControlPlane();
  await place(plane, []);
  const { stdout, stderr } = await convoke(plane, "get observations");
  expect({ stdout, stderr }).toEqual({ stdout: "", stderr: "no observations found\n" });
  const { dispatchers } = await plane.dispatchers.listDispatchers({});
  await plane.dispatchers.reportObservations({
    dispatcherId: "d1",
    epoch: dispatchers[0]?.epoch ?? 0n,
    observations: [{ serverId: "s1", incarnation: 1n, verdict: 3, inARow: 3, detail: "no answer" }],
  });
  expect((await convoke(plane, "get observations s1")).stdout).toMatch(
    /^s1 +d1 +TIMEOUT +3 +yes +1 +0s +no answer$/m,
  );
});

test("what is explained of dampening is what is done", () => {
  expect(DAMPENING_MS).toEqual([1, 2, 3].map(holdMs));
  expect(holdMs(4)).toBe(DAMPENING_MS.at(-1));
  expect(DAMPENING_RESET_MS).toBe(QUIET_MS);
});
