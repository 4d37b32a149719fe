import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { statusError } from "../../../common/rpc/status.ts";
import {
  DispatcherService,
  Observation_Verdict,
  type ReportObservationsRequest,
} from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createEpoch } from "../epoch.ts";
import { dueReport } from "./observation-report.ts";
import { createReporter } from "./reporter.ts";
import type { Vote } from "./server-observer.ts";

/** A reporter of the votes that a test sets, against a control plane whose store and answers a test sees and decides. */
function setUp() {
  const clock = createFakeClock();
  const requests: ReportObservationsRequest[] = [];
  /** What the control plane has: `FAILED 2` and its like, by server. */
  const stored = new Map<string, string>();
  const control = { withdrawn: "", before: async () => {}, after: async () => {} };
  const transport = createRouterTransport(({ service }) => {
    service(DispatcherService, {
      async reportObservations(request) {
        requests.push(request);
        await control.before();
        control.withdrawn = request.withdrawn ? request.withdrawReason : "";
        for (const { serverId, verdict, inARow } of request.observations)
          stored.set(serverId, `${Observation_Verdict[verdict]} ${inARow}`);
        await control.after();
        return {};
      },
    });
  });
  const epoch = createEpoch({ dispatcherId: "d1", epoch: 7n, ttlMs: 3_600_000, sentAtMs: 0, clock });
  const votes = new Map<string, Vote>();
  let withdrawal: string | undefined;
  const reporter = createReporter({
    dispatcherId: "d1",
    epoch,
    client: createClient(DispatcherService, transport),
    due: (serverId) =>
      dueReport(
        { vote: votes.get(serverId), incarnation: 1n, state: 1, spell: 0 },
        reporter.written(serverId),
      ),
    withdrawal: () => withdrawal,
    clock,
    logger: pino({ level: "silent" }),
    random: () => 0,
  });
  const stop = new AbortController();
  const running = reporter.run(stop.signal);
  return {
    clock,
    requests,
    stored,
    control,
    epoch,
    reporter,
    running,
    stop,
    vote(serverId: string, verdict: Observation_Verdict, inARow: number) {
      votes.set(serverId, { verdict, inARow, detail: "because" });
      reporter.touch(serverId);
    },
    withdraw(reason: string | undefined) {
      withdrawal = reason;
      reporter.withdrawalChanged();
    },
  };
}

const { FAILED, OK, TIMEOUT } = Observation_Verdict;

describe("the reporter", () => {
  it("gathers what changes together, and says it once, under its epoch", async () => {
    const { clock, requests, vote, reporter } = setUp();
    vote("a", FAILED, 1);
    vote("b", TIMEOUT, 1);
    vote("a", FAILED, 2);
    vote("c", OK, 2);
    await clock.advance(10);
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatchObject({ dispatcherId: "d1", epoch: 7n, withdrawn: false });
    expect(requests[0]?.observations).toMatchObject([
      { serverId: "a", verdict: FAILED, inARow: 2, incarnation: 1n, detail: "because" },
      { serverId: "b", verdict: TIMEOUT, inARow: 1 },
    ]);
    for (const serverId of ["a", "b", "c"]) reporter.touch(serverId);
    await clock.advance(60_000);
    expect(requests).toHaveLength(1);
  });

  it("sends many in batches, withdrawn from the first", async () => {
    const { clock, requests, stored, vote, withdraw, control } = setUp();
    for (let index = 0; index < 2_500; index++) vote(`s${index}`, TIMEOUT, 1);
    withdraw("everything is silent");
    await clock.advance(10);
    expect(requests.map(({ observations }) => observations.length)).toEqual([1_000, 1_000, 500]);
    expect(requests.every(({ withdrawn }) => withdrawn)).toBe(true);
    expect(stored.size).toBe(2_500);
    withdraw(undefined);
    await clock.advance(10);
    expect(requests).toHaveLength(4);
    expect(control.withdrawn).toBe("");
  });

  it("says again what may not have arrived, as it is by then", async () => {
    const { clock, requests, stored, control, vote } = setUp();
    control.before = async () => {
      throw new ConnectError("nobody there", Code.Unavailable);
    };
    vote("a", FAILED, 1);
    await clock.advance(5_000);
    const tries = requests.length;
    // With a back-off: not hundreds of them.
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(12);
    vote("a", OK, 2);
    control.before = async () => {};
    await clock.advance(5_000);
    // OK goes without saying otherwise; here a report may have said that it fails.
    expect(stored.get("a")).toBe("OK 2");
  });

  it("takes a report for unknown whose reply was lost, and is right in the end though it lands late", async () => {
    const { clock, stored, control, vote } = setUp();
    control.after = async () => {
      throw new ConnectError("the connection broke", Code.Unavailable);
    };
    vote("a", FAILED, 2);
    await clock.advance(10);
    expect(stored.get("a")).toBe("FAILED 2");
    control.after = async () => {};
    vote("a", OK, 2);
    await clock.advance(3_000);
    expect(stored.get("a")).toBe("OK 2");
    // The first, held up somewhere, is carried out a second time only now.
    stored.set("a", "FAILED 2");
    await clock.advance(15_000);
    expect(stored.get("a")).toBe("OK 2");
  });

  it("goes on with others when the control plane does not take a report as such", async () => {
    const { clock, requests, stored, control, vote } = setUp();
    control.before = async () => {
      throw new ConnectError("no such verdict", Code.InvalidArgument);
    };
    vote("a", FAILED, 2);
    await clock.advance(10);
    control.before = async () => {};
    vote("b", FAILED, 2);
    await clock.advance(60_000);
    expect(stored.get("b")).toBe("FAILED 2");
    expect(requests.length).toBeLessThan(5);
  });

  it("ends with its epoch, and ends the epoch when a report says that it is over (I5)", async () => {
    const { clock, control, vote, running, epoch, requests } = setUp();
    control.before = async () => {
      throw statusError(Code.FailedPrecondition, ErrorReason.EPOCH_EXPIRED, "register again");
    };
    vote("a", FAILED, 2);
    await clock.advance(10);
    await running;
    expect(epoch.valid()).toBe(false);
    vote("b", FAILED, 2);
    await clock.advance(60_000);
    expect(requests).toHaveLength(1);
  });
});
