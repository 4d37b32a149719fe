import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { compileDetection, type DetectionSettings, toDetection } from "../../common/detection.ts";
import { statusError } from "../../common/rpc/status.ts";
import { durationFromMs } from "../../common/time.ts";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import {
  createEpoch,
  DispatcherReplacedError,
  type Epoch,
  EpochOverError,
  VALIDITY_MARGIN,
} from "./epoch.ts";
import { createRegistration, type WithEpoch } from "./registration.ts";

const TTL_MS = 6_000;
const INTERVAL_MS = 2_000;
const VALID_MS = TTL_MS * (1 - VALIDITY_MARGIN);

const unavailable = () => new ConnectError("nobody there", Code.Unavailable);
const expired = () => statusError(Code.FailedPrecondition, ErrorReason.EPOCH_EXPIRED, "register again");
const replaced = () => statusError(Code.FailedPrecondition, ErrorReason.DISPATCHER_REPLACED, "stop");

/** A registration against a registry in memory whose answers a test decides. */
function setUp() {
  const clock = createFakeClock();
  const calls: string[] = [];
  const epochs: Epoch[] = [];
  const losses: boolean[] = [];
  const answers = { register: async () => {}, heartbeat: async () => {} };
  const registry: { dispatcherId: string; epoch: bigint }[] = [];
  let lastEpoch = 0n;
  const transport = createRouterTransport(({ service }) => {
    service(DispatcherService, {
      async registerDispatcher({ dispatcherId, weight, labels }) {
        calls.push(`register ${dispatcherId}`);
        await answers.register();
        const epoch = ++lastEpoch;
        return {
          dispatcher: { dispatcherId, epoch, weight, labels, ttl: durationFromMs(TTL_MS) },
          heartbeatInterval: durationFromMs(INTERVAL_MS),
          detection: toDetection(compileDetection({ profile: "wan", refusals: 7 })),
        };
      },
      async heartbeat({ epoch }) {
        calls.push(`heartbeat ${epoch}`);
        await answers.heartbeat();
        return {};
      },
      listDispatchers: () => ({ dispatchers: registry }),
      deregisterDispatcher({ epoch }) {
        calls.push(`deregister ${epoch}`);
        return {};
      },
    });
  });
  const registration = createRegistration({
    dispatcherId: "d1",
    ttlMs: TTL_MS,
    weight: 1,
    labels: {},
    client: createClient(DispatcherService, transport),
    clock,
    logger: pino({ level: "silent" }),
    random: () => 0,
    onControlPlaneLost: (lost) => void losses.push(lost),
  });
  const stop = new AbortController();
  const untilOver = (epoch: Epoch) =>
    new Promise<void>((resolve) => {
      epochs.push(epoch);
      const done = () => resolve();
      epoch.signal.addEventListener("abort", done);
      stop.signal.addEventListener("abort", done);
    });
  const running = (work: WithEpoch = untilOver) => registration.run(stop.signal, work);
  return { clock, calls, epochs, losses, answers, registry, registration, stop, running };
}

describe("a registration", () => {
  it("renews its epoch every interval and leaves when the work is done", async () => {
    const { clock, calls, epochs, registration, stop, running } = setUp();
    const over = running();
    await clock.advance(5 * INTERVAL_MS);
    expect(calls).toEqual(["register d1", ...Array(5).fill("heartbeat 1")]);
    expect(epochs[0]?.valid()).toBe(true);
    expect(registration.state).toMatchObject({ kind: "registered" });
    stop.abort();
    await over;
    expect(calls.at(-1)).toBe("deregister 1");
    expect(registration.state).toEqual({ kind: "ended" });
    expect(clock.pending).toBe(0);
  });

  it("hands on how servers are observed", async () => {
    const { stop, running } = setUp();
    let given: DetectionSettings | undefined;
    await running(async (_epoch, detection) => {
      given = detection;
      stop.abort();
    });
    expect(given).toEqual(compileDetection({ profile: "wan", refusals: 7 }));
  });

  it("goes on heartbeating while the work finishes after the stop", async () => {
    const { clock, calls, stop, running } = setUp();
    const finish = Promise.withResolvers<void>();
    const over = running(() => finish.promise);
    await clock.advance(INTERVAL_MS);
    stop.abort();
    await clock.advance(5 * INTERVAL_MS);
    expect(calls.filter((call) => call === "heartbeat 1")).toHaveLength(6);
    finish.resolve();
    await over;
    expect(calls.at(-1)).toBe("deregister 1");
  });

  it("ends the epoch when heartbeats are lost, at the send time of the last success + TTL - margin", async () => {
    const { clock, calls, epochs, answers, running, stop } = setUp();
    const over = running();
    await clock.advance(INTERVAL_MS);
    answers.heartbeat = async () => {
      throw unavailable();
    };
    // The last success was sent at INTERVAL_MS.
    await clock.advance(VALID_MS - 1);
    expect(epochs[0]?.signal.aborted).toBe(false);
    answers.register = async () => {
      throw unavailable();
    };
    await clock.advance(1);
    expect(epochs[0]?.signal.aborted).toBe(true);
    expect(epochs[0]?.signal.reason).toBeInstanceOf(EpochOverError);
    await clock.advance(10_000);
    expect(calls.filter((call) => call === "register d1").length).toBeGreaterThan(2);
    answers.register = async () => {};
    answers.heartbeat = async () => {};
    await clock.advance(10_000);
    expect(epochs.map(({ epoch }) => epoch)).toEqual([1n, 2n]);
    expect(epochs[1]?.valid()).toBe(true);
    stop.abort();
    await over;
  });

  it("tries a lost heartbeat again before the epoch ends", async () => {
    const { clock, calls, epochs, answers, running, stop } = setUp();
    const over = running();
    let failures = 2;
    answers.heartbeat = async () => {
      if (failures-- > 0) throw unavailable();
    };
    await clock.advance(3 * TTL_MS);
    expect(epochs).toHaveLength(1);
    expect(epochs[0]?.valid()).toBe(true);
    expect(calls.filter((call) => call.startsWith("register"))).toHaveLength(1);
    stop.abort();
    await over;
  });

  it("does not count a heartbeat from when it was answered", async () => {
    const { clock, epochs, answers, running, stop } = setUp();
    const over = running();
    const reply = Promise.withResolvers<void>();
    answers.heartbeat = () => reply.promise;
    await clock.advance(INTERVAL_MS);
    await clock.advance(1_000);
    reply.resolve();
    answers.heartbeat = async () => {
      throw unavailable();
    };
    await clock.advance(VALID_MS - 1_000 - 1);
    expect(epochs[0]?.signal.aborted).toBe(false);
    await clock.advance(1);
    expect(epochs[0]?.signal.aborted).toBe(true);
    stop.abort();
    await over;
  });

  it("is invalid at once in a process that was paused, before any timer has fired", () => {
    const clock = createFakeClock();
    let pausedMs = 0;
    const paused = { ...clock, monotonicMs: () => clock.monotonicMs() + pausedMs };
    const epoch = createEpoch({ dispatcherId: "d1", epoch: 1n, ttlMs: TTL_MS, sentAtMs: 0, clock: paused });
    expect(epoch.valid()).toBe(true);
    pausedMs = VALID_MS;
    expect(epoch.signal.aborted).toBe(false);
    // The reply to a heartbeat sent before the pause is read first.
    epoch.renew(VALID_MS - 1);
    expect(epoch.valid()).toBe(false);
    expect(() => epoch.assertValid()).toThrow(EpochOverError);
    expect(epoch.signal.aborted).toBe(true);
    expect(epoch.remainingMs()).toBe(0);
  });

  it("registers anew when a heartbeat says that the epoch expired", async () => {
    const { clock, calls, epochs, answers, running, stop } = setUp();
    const over = running();
    await clock.armed();
    answers.heartbeat = async () => {
      throw expired();
    };
    await clock.advance(INTERVAL_MS);
    answers.heartbeat = async () => {};
    await clock.advance(INTERVAL_MS);
    expect(epochs.map(({ epoch }) => epoch)).toEqual([1n, 2n]);
    expect(calls.filter((call) => call.startsWith("register"))).toHaveLength(2);
    expect(epochs[0]?.valid()).toBe(false);
    stop.abort();
    await over;
  });

  it("registers anew when another call says that the epoch expired", async () => {
    const { clock, epochs, running, stop } = setUp();
    const over = running();
    await clock.armed(2);
    expect(epochs[0]?.endedBy(unavailable())).toBe(false);
    expect(epochs[0]?.endedBy(expired())).toBe(true);
    await clock.advance(1_000);
    expect(epochs.map((epoch) => epoch.valid())).toEqual([false, true]);
    stop.abort();
    await over;
  });

  it("backs off between epochs that end before their first heartbeat", async () => {
    const { clock, calls, running, stop } = setUp();
    const over = running(async (epoch) => {
      epoch.endedBy(expired());
    });
    await clock.advance(10_000);
    expect(calls.filter((call) => call.startsWith("register")).length).toBeLessThan(12);
    stop.abort();
    await over;
  });

  it("ends with an error that says why when it was replaced", async () => {
    const { clock, calls, answers, epochs, registration, running } = setUp();
    const over = running();
    const failed = expect(over).rejects.toThrow(DispatcherReplacedError);
    answers.heartbeat = async () => {
      throw replaced();
    };
    await clock.advance(INTERVAL_MS);
    await failed;
    await expect(over).rejects.toThrow('another process has registered as dispatcher "d1"');
    expect(epochs[0]?.valid()).toBe(false);
    expect(registration.state.kind).toBe("ended");
    expect(calls.filter((call) => call.startsWith("deregister"))).toEqual([]);
  });

  it("does not throw out another process that replaced it, when it hears of the end of its epoch first", async () => {
    const { clock, calls, answers, registry, running } = setUp();
    const failed = expect(running()).rejects.toThrow(DispatcherReplacedError);
    registry.push({ dispatcherId: "d0", epoch: 8n }, { dispatcherId: "d1", epoch: 9n });
    answers.heartbeat = async () => {
      throw expired();
    };
    await clock.advance(INTERVAL_MS + 1_000);
    await failed;
    expect(calls.filter((call) => call.startsWith("register"))).toHaveLength(1);
  });

  it("does not take its own old registration, or one it tried to make, for another process", async () => {
    const { clock, calls, epochs, answers, registry, running, stop } = setUp();
    const over = running();
    await clock.armed(2);
    registry.push({ dispatcherId: "d1", epoch: 1n });
    answers.register = async () => {
      // It took effect, and the reply is lost.
      registry.splice(0, 1, { dispatcherId: "d1", epoch: 2n });
      answers.register = async () => {};
      throw unavailable();
    };
    epochs[0]?.endedBy(expired());
    await clock.advance(5_000);
    expect(calls.filter((call) => call.startsWith("register"))).toHaveLength(3);
    expect(epochs.at(-1)?.valid()).toBe(true);
    stop.abort();
    await over;
  });

  it("ends when the control plane refuses it as invalid, and keeps trying otherwise", async () => {
    const { clock, answers, calls, running } = setUp();
    answers.register = async () => {
      throw unavailable();
    };
    const over = running();
    const failed = expect(over).rejects.toMatchObject({ code: Code.InvalidArgument });
    await clock.advance(60_000);
    expect(calls.length).toBeGreaterThan(5);
    answers.register = async () => {
      throw new ConnectError("no such ID", Code.InvalidArgument);
    };
    await clock.advance(10_000);
    await failed;
  });

  it("throws what the work throws, and stops heartbeating", async () => {
    const { clock, running } = setUp();
    await expect(running(() => Promise.reject(new Error("defect")))).rejects.toThrow("defect");
    expect(clock.pending).toBe(0);
  });
});

describe("the control plane", () => {
  const late = () => new ConnectError("no answer", Code.DeadlineExceeded);
  const storeLost = () => statusError(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, "no quorum");
  const failing = (error: () => Error) => async () => {
    throw error();
  };

  it.each([
    ["is dead", unavailable],
    ["is silent", late],
    ["has lost its store", storeLost],
  ])("is lost from the end of the epoch to the next registration when it %s", async (_, error) => {
    const { clock, epochs, losses, answers, running, stop } = setUp();
    const over = running();
    await clock.advance(INTERVAL_MS);
    answers.heartbeat = failing(error);
    answers.register = failing(error);
    await clock.advance(VALID_MS - 1);
    expect(losses).toEqual([]);
    await clock.advance(1);
    expect(losses).toEqual([true]);
    await clock.advance(3_600_000);
    expect(losses).toEqual([true]);
    answers.heartbeat = async () => {};
    answers.register = async () => {};
    await clock.advance(60_000);
    expect(epochs.map((epoch) => epoch.valid())).toEqual([false, true]);
    expect(losses).toEqual([true, false]);
    stop.abort();
    await over;
  });

  it.each([
    ["a heartbeat", true],
    ["another call", false],
  ])(
    "is not lost when it told %s that the epoch expired, whatever comes then (I2)",
    async (_, byHeartbeat) => {
      const { clock, epochs, losses, answers, running, stop } = setUp();
      const over = running();
      await clock.advance(INTERVAL_MS);
      answers.register = failing(unavailable);
      answers.heartbeat = failing(byHeartbeat ? expired : unavailable);
      await clock.advance(INTERVAL_MS);
      if (!byHeartbeat) epochs[0]?.endedBy(expired());
      await clock.advance(60_000);
      expect(epochs[0]?.valid()).toBe(false);
      expect(losses).toEqual([]);
      stop.abort();
      await over;
    },
  );

  it("is not lost only because this process was late, but once it does not answer", async () => {
    const { clock, epochs, losses, answers, running, stop } = setUp();
    const over = running();
    await clock.armed(2);
    // As after a pause: the epoch is over before any heartbeat has failed.
    answers.heartbeat = () => new Promise(() => {});
    answers.register = failing(unavailable);
    await clock.advance(VALID_MS - 1);
    expect(losses).toEqual([]);
    await clock.advance(1);
    expect(epochs[0]?.valid()).toBe(false);
    expect(losses).toEqual([]);
    await clock.advance(1_000);
    expect(losses).toEqual([true]);
    stop.abort();
    await over;
    expect(losses).toEqual([true, false]);
  });

  it("is no longer lost once it answers anything, and not again before the next epoch", async () => {
    const { clock, losses, answers, running, stop } = setUp();
    const over = running();
    await clock.armed(2);
    answers.heartbeat = failing(unavailable);
    answers.register = failing(unavailable);
    await clock.advance(TTL_MS);
    expect(losses).toEqual([true]);
    answers.register = failing(() => statusError(Code.Aborted, ErrorReason.CONTENTION, "try again"));
    await clock.advance(60_000);
    answers.register = failing(unavailable);
    await clock.advance(60_000);
    expect(losses).toEqual([true, false]);
    stop.abort();
    await over;
  });
});
