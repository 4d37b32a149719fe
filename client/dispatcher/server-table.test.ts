import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import {
  ServerEventSchema,
  ServerService,
  type WatchServersResponse,
  WatchServersResponseSchema,
} from "../../proto/gen/convoke/v1/server_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import type { AgentClient } from "../transport/client.ts";
import { followServers, refreshServers } from "./follow-servers.ts";
import { createServerTable } from "./server-table.ts";

const serverOf = (
  serverId: string,
  more: { incarnation?: bigint; reservedUnits?: number; agentAddress?: string; cordoned?: boolean } = {},
) =>
  create(ServerSchema, {
    serverId,
    incarnation: 1n,
    state: Server_State.UP,
    capacity: 10,
    agentAddress: `${serverId}:1`,
    ...more,
  });
const put = (server: ReturnType<typeof serverOf>) =>
  create(ServerEventSchema, { type: EventType.PUT, server });
const gone = (server: ReturnType<typeof serverOf>) =>
  create(ServerEventSchema, { type: EventType.DELETE, server });

function setUp() {
  const clock = createFakeClock();
  const open: string[] = [];
  const connectAgent = (address: string): AgentClient => {
    if (!address.includes(":")) throw new TypeError("not an address");
    open.push(address);
    const close = () => {
      open.splice(open.indexOf(address), 1);
    };
    const transport = createRouterTransport(() => {});
    return Object.assign(createClient(AgentService, transport), { close, [Symbol.dispose]: close });
  };
  const table = createServerTable({ clock, connectAgent, random: () => 0.5 });
  const reserved = () =>
    Object.fromEntries(table.placeable().map(({ serverId, reservedUnits }) => [serverId, reservedUnits]));
  return { clock, table, open, reserved };
}

describe("the server table", () => {
  const listed = (server: ReturnType<typeof serverOf>, revision: bigint) => ({ server, revision });

  it("counts held units until the control plane's figures include them", () => {
    const { table, reserved } = setUp();
    table.apply(put(serverOf("a", { reservedUnits: 2 })), 10n);
    const first = table.hold("a", 1n, 3);
    const second = table.hold("a", 1n, 1);
    expect(reserved()).toEqual({ a: 6 });
    first.committed(12n);
    // Read before the commit: the three units come on top.
    table.replaceAll([listed(serverOf("a", { reservedUnits: 2 }), 11n)], { revision: 11n, resync: false });
    expect(reserved()).toEqual({ a: 6 });
    table.replaceAll([listed(serverOf("a", { reservedUnits: 5 }), 12n)], { revision: 12n, resync: false });
    expect(reserved()).toEqual({ a: 6 });
    second.release();
    second.release();
    expect(reserved()).toEqual({ a: 5 });
  });

  it("drops what it held against a life of a server that is over", () => {
    const { table, reserved } = setUp();
    table.apply(put(serverOf("a")), 1n);
    const hold = table.hold("a", 1n, 4);
    table.startFailed("a");
    table.apply(put(serverOf("a", { incarnation: 2n, reservedUnits: 1 })), 2n);
    expect(reserved()).toEqual({ a: 1 });
    hold.release();
    expect(reserved()).toEqual({ a: 1 });
    expect(table.placeable()[0]?.penalised).toBe(false);
    table.hold("a", 1n, 7);
    expect(reserved()).toEqual({ a: 1 });
    expect(table.agent("a", 1n)).toBeUndefined();
    expect(table.agent("a", 2n)).toBeDefined();
  });

  it("ignores what is older than what it knows, except in a resync", () => {
    const { table } = setUp();
    table.apply(put(serverOf("a", { cordoned: true })), 10n);
    const old = { revision: 9n, resync: false };
    table.replaceAll([listed(serverOf("a"), 9n)], old);
    expect(table.placeable()[0]?.cordoned).toBe(true);
    table.replaceAll([], old);
    expect(table.placeable()).toHaveLength(1);
    table.apply(gone(serverOf("a")), 9n);
    expect(table.placeable()).toHaveLength(1);
    table.replaceAll([listed(serverOf("a"), 2n)], { revision: 2n, resync: true });
    expect(table.placeable()[0]?.cordoned).toBe(false);
    table.replaceAll([], { revision: 3n, resync: false });
    expect(table.placeable()).toEqual([]);
  });

  it("rests a server after a failed start, longer each time, until one succeeds", async () => {
    const { clock, table } = setUp();
    table.apply(put(serverOf("a")), 1n);
    const restMs = async () => {
      table.startFailed("a");
      let ms = 0;
      for (; table.placeable()[0]?.penalised; ms++) await clock.advance(1);
      return ms;
    };
    const first = await restMs();
    expect(first).toBeGreaterThan(100);
    const second = await restMs();
    expect(second).toBeGreaterThan(first * 1.5);
    table.startSucceeded("a");
    expect(await restMs()).toBe(first);
  });

  it("keeps one agent client per address and closes it when the address changes or the server goes", () => {
    const { table, open } = setUp();
    table.apply(put(serverOf("a")), 1n);
    const client = table.agent("a", 1n);
    expect(table.agent("a", 1n)).toBe(client);
    expect(open).toEqual(["a:1"]);
    table.apply(put(serverOf("a", { agentAddress: "a:2" })), 2n);
    table.agent("a", 1n);
    expect(open).toEqual(["a:2"]);
    table.apply(gone(serverOf("a")), 3n);
    expect(open).toEqual([]);
    table.apply(put(serverOf("b")), 4n);
    table.agent("b", 1n);
    table.apply(put(serverOf("c", { agentAddress: "nonsense" })), 4n);
    expect(table.agent("c", 1n)).toBeUndefined();
    table[Symbol.dispose]();
    expect(open).toEqual([]);
  });
});

describe("the server table tells observers", () => {
  it("what appears, goes, or changes in state, incarnation or address, and of nothing else", () => {
    const { table } = setUp();
    const told: string[] = [];
    const forget = table.onChange((serverId) => told.push(`${serverId} ${table.get(serverId)?.incarnation}`));
    const told1 = () => told.splice(0);
    table.apply(put(serverOf("a")), 1n);
    expect(told1()).toEqual(["a 1"]);
    table.apply(put(serverOf("a", { reservedUnits: 5, cordoned: true })), 2n);
    expect(told1()).toEqual([]);
    table.apply(put(serverOf("a", { incarnation: 2n })), 3n);
    table.apply(put(serverOf("a", { incarnation: 2n, agentAddress: "a:2" })), 4n);
    table.apply(
      put(create(ServerSchema, { ...serverOf("a", { incarnation: 2n }), state: Server_State.DOWN })),
      5n,
    );
    expect(told1()).toEqual(["a 2", "a 2", "a 2"]);
    table.apply(gone(serverOf("a")), 6n);
    expect(told1()).toEqual(["a undefined"]);
    expect([...table.ids()]).toEqual([]);
    forget();
    table.apply(put(serverOf("b")), 7n);
    expect(told1()).toEqual([]);
  });

  it("and gives them a new connection to a server that is there", () => {
    const { table, open } = setUp();
    table.apply(put(serverOf("a")), 1n);
    const client = table.agent("a", 1n);
    const renewed = table.renewedAgent("a", 1n);
    expect(renewed).not.toBe(client);
    expect(table.agent("a", 1n)).toBe(renewed);
    expect(open).toEqual(["a:1"]);
    expect(table.renewedAgent("a", 2n)).toBeUndefined();
  });
});

describe("following the servers", () => {
  type Step = { messages: WatchServersResponse[]; end?: ConnectError };
  const message = (revision: bigint, ...events: ReturnType<typeof put>[]) =>
    create(WatchServersResponseSchema, { revision, events });

  /** A ServerService whose watches follow a script, then stay open. */
  function serviceOf(lists: { revision: bigint; servers: string[] }[], steps: Step[]) {
    const calls: string[] = [];
    const transport = createRouterTransport(({ service }) => {
      service(ServerService, {
        listServers({ pageToken }) {
          calls.push(`list ${pageToken}`.trim());
          const list = lists[0];
          const at = Number(pageToken || 0);
          const id = list?.servers[at];
          const more = list !== undefined && at + 1 < list.servers.length;
          if (!more) lists.splice(0, lists.length > 1 ? 1 : 0);
          return {
            servers: id === undefined ? [] : [serverOf(id)],
            revision: (list?.revision ?? 0n) + BigInt(at),
            nextPageToken: more ? String(at + 1) : "",
          };
        },
        async *watchServers({ revision }, { signal }) {
          calls.push(`watch ${revision}`);
          const step = steps.shift();
          if (!step) {
            await new Promise((resolve) => signal.addEventListener("abort", resolve));
            return;
          }
          yield* step.messages;
          if (step.end) throw step.end;
        },
      });
    });
    return { calls, client: createClient(ServerService, transport) };
  }

  it("resumes after a lost watch and lists again when the revision is gone", async () => {
    const { clock, table } = setUp();
    const { calls, client } = serviceOf(
      [
        { revision: 5n, servers: ["a", "b"] },
        { revision: 3n, servers: ["b"] },
      ],
      [
        { messages: [message(7n, put(serverOf("c"))), message(9n)], end: unavailable() },
        { messages: [], end: new ConnectError("compacted", Code.OutOfRange) },
      ],
    );
    const stop = new AbortController();
    const over = followServers({ table, client, clock, logger: pino({ level: "silent" }) }, stop.signal);
    const ids = () => table.placeable().map(({ serverId }) => serverId);
    await clock.armed();
    expect(table.loaded).toBe(true);
    expect(ids()).toEqual(["a", "b", "c"]);
    await clock.advance(1_000);
    expect(calls).toEqual(["list", "list 1", "watch 5", "watch 9", "list", "watch 3"]);
    // A store that began anew has lower revisions.
    expect(ids()).toEqual(["b"]);
    stop.abort();
    await over;
    expect(clock.pending).toBe(0);
  });

  it("leaves the table as it was when a refresh fails", async () => {
    const { table } = setUp();
    table.apply(put(serverOf("a")), 1n);
    const transport = createRouterTransport(({ service }) =>
      service(ServerService, {
        listServers({ pageToken }) {
          if (pageToken !== "") throw unavailable();
          return { servers: [serverOf("b")], revision: 4n, nextPageToken: "1" };
        },
      }),
    );
    const client = createClient(ServerService, transport);
    await expect(refreshServers(table, client, new AbortController().signal)).rejects.toThrow();
    expect(table.placeable().map(({ serverId }) => serverId)).toEqual(["a"]);
    expect(table.loaded).toBe(false);
  });

  const unavailable = () => new ConnectError("gone", Code.Unavailable);
});
