import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { statusError } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createDispatcherWorld } from "../../test/support/dispatcher-world.ts";
import { runDispatchers, SOON } from "../../test/support/run-dispatchers.ts";

const unavailable = () => new ConnectError("nobody there", Code.Unavailable);
const storeLost = () => statusError(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, "no quorum");
const expired = () => statusError(Code.FailedPrecondition, ErrorReason.EPOCH_EXPIRED, "register again");

/** A world whose control plane a test takes away, and what its agents are told. */
function createOutageWorld() {
  const world = createDispatcherWorld();
  const { dispatchers } = world.clients;
  const faults: { heartbeat?: () => Error; register?: () => Error } = {};
  /** Of each keepalive since it was last emptied, whether it said that the control plane is lost. */
  const told: boolean[] = [];
  const reports: unknown[] = [];
  const outageWorld: typeof world = {
    ...world,
    clients: {
      ...world.clients,
      dispatchers: {
        ...dispatchers,
        async heartbeat(request, options) {
          if (faults.heartbeat) throw faults.heartbeat();
          return dispatchers.heartbeat(request, options);
        },
        async registerDispatcher(request, options) {
          if (faults.register) throw faults.register();
          return dispatchers.registerDispatcher(request, options);
        },
        async reportObservations(request, options) {
          reports.push(request);
          return dispatchers.reportObservations(request, options);
        },
      },
    },
    connectAgent(address) {
      const agent = world.connectAgent(address);
      return {
        ...agent,
        keepalive(request, options) {
          told.push(request.controlPlaneLost === true);
          return agent.keepalive(request, options);
        },
      };
    },
  };
  const registrations = () => world.calls.filter((call) => call === "register").length;
  return { world: outageWorld, faults, told, reports, registrations };
}

describe("a dispatcher whose control plane is away", () => {
  const start = runDispatchers();

  it.each([
    ["answers nothing", unavailable],
    ["has lost its store", storeLost],
  ])("probes on while that %s, says so and votes nothing, and is as usual afterwards", async (_, error) => {
    const { world, faults, told, reports, registrations } = createOutageWorld();
    const server = world.addServer("a");
    start(world, { ttlMs: 1_000 });
    await expect.poll(() => told.length, SOON).toBeGreaterThan(0);
    Object.assign(faults, { heartbeat: error, register: error });
    await expect.poll(() => told.at(-1), SOON).toBe(true);
    reports.length = 0;
    told.length = 0;
    server.keepalive = () => {
      throw unavailable();
    };
    await expect.poll(() => told.length, SOON).toBeGreaterThanOrEqual(3);
    expect(told).not.toContain(false);
    expect(reports).toEqual([]);
    server.keepalive = () => {};
    delete faults.heartbeat;
    delete faults.register;
    await expect.poll(registrations, SOON).toBe(2);
    told.length = 0;
    await expect.poll(() => told.length, SOON).toBeGreaterThanOrEqual(3);
    expect(told).not.toContain(true);
  });

  it("probes no more when it was told that its epoch is over, until it is registered anew (I2)", async () => {
    const { world, faults, told, registrations } = createOutageWorld();
    world.addServer("a");
    start(world, { ttlMs: 1_000 });
    await expect.poll(() => told.length, SOON).toBeGreaterThan(0);
    let tries = 0;
    faults.register = () => {
      tries++;
      return unavailable();
    };
    faults.heartbeat = expired;
    await expect.poll(() => tries, SOON).toBe(1);
    delete faults.heartbeat;
    const before = told.length;
    await expect.poll(() => tries, SOON).toBeGreaterThanOrEqual(4);
    expect(told).toHaveLength(before);
    expect(told).not.toContain(true);
    delete faults.register;
    await expect.poll(registrations, SOON).toBe(2);
    await expect.poll(() => told.length, SOON).toBeGreaterThan(before);
    expect(told).not.toContain(true);
  });
});
