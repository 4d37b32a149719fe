import { describe, expect, it } from "vitest";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { startEtcd } from "../../support/etcd.ts";
import type { ConvokeProcess } from "./convoke-process.ts";
import type { Participant } from "./participant.ts";
import { faultLasts, soon } from "./patience.ts";
import { freePort, startSourceProxy } from "./source-proxy.ts";
import { inWords } from "./table-history.ts";
import { ids, startWorld, type World } from "./world.ts";

const CONFERENCE_GONE = 4001;
const SERVERS = ["s1", "s2", "s3"];
const DISPATCHERS = ["d1", "d2", "d3"];

/** An agent that hears nobody stops after 3 s, so that an outage of a few times that is soon over. */
const SERVE = ["--probe-interval", "500ms", "--probe-timeout", "250ms", "--probe-retry", "50ms"];

/** So many isolation times an outage lasts after the registrations are over. */
const TIMES = 3;

/** Two participants of a conference on each server. */
interface Pair {
  readonly serverId: string;
  readonly ann: Participant;
  readonly bob: Participant;
}

async function joinPairs(world: World, stack: AsyncDisposableStack): Promise<Pair[]> {
  const join = async (serverId: string) => {
    const [conferenceId = ""] = world.on(serverId);
    const [ann, bob] = [await world.join(conferenceId), await world.join(conferenceId)];
    return { serverId, ann: stack.use(ann), bob: stack.use(bob) };
  };
  return Promise.all(SERVERS.map(join));
}

/** Asserts that what one says the other hears, and that neither was ever cut. */
async function hearEachOther(pairs: readonly Pair[], text: string) {
  for (const { ann } of pairs) ann.say(text);
  await soon(() => pairs.map(({ bob }) => bob.heard.at(-1))).toEqual(pairs.map(() => text));
  expect(pairs.flatMap(({ ann, bob }) => [ann.cut, bob.cut])).toEqual(
    pairs.flatMap(() => [undefined, undefined]),
  );
}

/** Asserts that they go on hearing each other for this long, without a gap. */
async function hearEachOtherFor(ms: number, pairs: readonly Pair[]) {
  const untilMs = performance.now() + ms;
  for (let count = 0; performance.now() < untilMs; count++) {
    await hearEachOther(pairs, `${ms} ms, ${count}`);
    await faultLasts(100);
  }
}

const PROBES_ON = "the control plane does not answer; probing goes on without a registration";

/** Resolves once the registrations of all are over, and they have noticed why. */
const allProbeOn = (dispatchers: readonly ConvokeProcess[]) =>
  Promise.all(dispatchers.map((dispatcher) => dispatcher.logged(PROBES_ON)));

/** Resolves once all are registered again. */
const allRegistered = (dispatchers: readonly ConvokeProcess[]) =>
  Promise.all(dispatchers.map((dispatcher) => dispatcher.logged("probing without a registration is over")));

/** What must be the same after an outage. */
async function standing(world: World) {
  const rows = [...world.table.rows.values()]
    .map(({ conferenceId, epoch, serverId, incarnation, address }) =>
      [conferenceId, epoch, serverId, incarnation, address].join(" "),
    )
    .sort();
  const hosted = await Promise.all(SERVERS.map((serverId) => world.hosted(serverId)));
  const rooms = hosted
    .flat()
    .map(({ conferenceId, dispatchEpoch, address, startTime }) =>
      [conferenceId, dispatchEpoch, address, startTime?.seconds].join(" "),
    );
  return { rows, rooms: rooms.sort() };
}

describe("an outage of the control plane many times as long as an agent goes on alone", () => {
  it.each(["killed", "its etcd frozen"])(
    "%s, costs no conference, and changes nothing (I1, I2, I3, I8)",
    {
      timeout: 180_000,
    },
    async (outage) => {
      await using stack = new AsyncDisposableStack();
      const etcd = outage === "killed" ? undefined : stack.use(await startEtcd());
      const [member] = etcd?.members ?? [];
      const world = stack.use(
        await startWorld({
          serve: SERVE,
          ...(member ? { store: `etcd://${member.endpoint}` } : {}),
          dispatchers: [],
          agents: { s1: [], s2: [], s3: [] },
        }),
      );
      const { table, servers } = world;
      const dispatchers = await world.startDispatchers(...DISPATCHERS);
      await world.place(ids("c", 30));
      const pairs = await joinPairs(world, stack);
      const before = await standing(world);
      const seen = { table: table.told.length, servers: servers.told.length };
      const isolationMs = await world.isolationMs();

      if (member) member.pause();
      else await world.controlPlane.end("SIGKILL");
      await allProbeOn(dispatchers);
      await hearEachOtherFor(TIMES * isolationMs, pairs);

      if (member) member.resume();
      else await world.restartControlPlane();
      await allRegistered(dispatchers);
      // What was there comes back in order, and the next conference finds its way.
      await world.place(["placed-afterwards"]);
      // Long enough for a verdict, were there one.
      await hearEachOtherFor(isolationMs, pairs);
      await soon(() => SERVERS.map(servers.stateOf)).toEqual(SERVERS.map(() => Server_State.UP));
      // Asked again while the watches come back: what they tell once stays told.
      const isNews = (event: string) => !event.startsWith("placed-afterwards") && !event.includes("EXISTING");
      await soon(async () => (await table.since(seen.table)).map(inWords).filter(isNews)).toEqual([]);
      const isDown = (state: string) => state.endsWith("DOWN");
      await soon(async () => (await servers.statesSince(seen.servers)).filter(isDown)).toEqual([]);
      const after = await standing(world);
      const isOld = (text: string) => !text.startsWith("placed-afterwards");
      expect(after.rows.filter(isOld)).toEqual(before.rows);
      expect(after.rooms.filter(isOld)).toEqual(before.rooms);
      await hearEachOther(pairs, "after all");
    },
  );

  it("does not keep a server going that is cut off from most of its observers: others may have moved it (I2)", {
    timeout: 180_000,
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const world = stack.use(await startWorld({ serve: SERVE, dispatchers: [], agents: { s2: [], s3: [] } }));
    const listen = `127.0.0.1:${await freePort()}`;
    const proxy = stack.use(await startSourceProxy(listen));
    await world.startAgent("s1", ["--listen", listen, "--advertise", proxy.address]);
    const dispatchers = await world.startDispatchers(...DISPATCHERS);
    await world.place(ids("c", 30));
    const pairs = await joinPairs(world, stack);
    const others = pairs.filter(({ serverId }) => serverId !== "s1");
    const [cutOff] = pairs.filter(({ serverId }) => serverId === "s1");
    const [lost, rowsBefore] = [world.on("s1"), new Map(world.table.rows)];
    const isolationMs = await world.isolationMs();

    await world.controlPlane.end("SIGKILL");
    await allProbeOn(dispatchers);
    const [d1, d2] = dispatchers;
    await proxy.cutOff(d1?.pid ?? 0);
    await hearEachOtherFor(TIMES * isolationMs, pairs);
    await proxy.cutOff(d2?.pid ?? 0);
    const cutMs = performance.now();
    await soon(() => [cutOff?.ann.cut?.code, cutOff?.bob.cut?.code]).toEqual([
      CONFERENCE_GONE,
      CONFERENCE_GONE,
    ]);
    // What was said last may be as old as an interval and a probe. Half as long again is for a busy machine's timers.
    expect((cutOff?.bob.cut?.atMs ?? 0) - cutMs).toBeGreaterThan(isolationMs / 2);
    expect((cutOff?.bob.cut?.atMs ?? 0) - cutMs).toBeLessThan(1.5 * isolationMs);
    await hearEachOtherFor(isolationMs, others);

    proxy.heal();
    await world.restartControlPlane();
    await allRegistered(dispatchers);
    const isAnew = (id: string) => {
      const row = world.table.rows.get(id);
      return row !== undefined && row.epoch > (rowsBefore.get(id)?.epoch ?? 0n);
    };
    await soon(() => lost.filter((id) => !isAnew(id))).toEqual([]);
    const kept = [...rowsBefore].filter(([id]) => !lost.includes(id));
    for (const [id, { epoch, serverId }] of kept) expect(world.rowOf(id)).toMatchObject({ epoch, serverId });
    await hearEachOther(others, "after all");
  });
});
