import { describe, expect, it } from "vitest";
import { Observation_Verdict } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { dueReport, farewellReport, type ReportedVote, type ReportSubject } from "./observation-report.ts";

const { OK, FAILED, TIMEOUT } = Observation_Verdict;
const vote = (verdict: Observation_Verdict, inARow: number) => ({ verdict, inARow, detail: "" });
const subject = (more: Partial<ReportSubject>): ReportSubject => ({
  vote: vote(OK, 2),
  incarnation: 1n,
  state: Server_State.UP,
  spell: 1,
  ...more,
});
const written = (
  verdict: Observation_Verdict,
  inARow: number,
  more: Partial<ReportedVote> = {},
): ReportedVote => ({
  ...vote(verdict, inARow),
  incarnation: 1n,
  spell: 1,
  ...more,
});

describe("what is due in a report", () => {
  it("is nothing of a server that is UP and answers, unless something else was said", () => {
    expect(dueReport(subject({}), undefined)).toBeUndefined();
    expect(dueReport(subject({}), written(OK, 2))).toBeUndefined();
    expect(dueReport(subject({}), written(TIMEOUT, 1))).toMatchObject({ verdict: OK });
    expect(dueReport(subject({}), written(FAILED, 2, { incarnation: 0n }))).toMatchObject({ verdict: OK });
    // A report whose reply was lost may have said that it failed.
    expect(dueReport(subject({}), "unknown")).toMatchObject({ verdict: OK });
    expect(dueReport(subject({ vote: undefined }), written(FAILED, 2))).toBeUndefined();
  });

  it("is each failing vote once, for each incarnation", () => {
    const failing = subject({ vote: vote(FAILED, 2), incarnation: 4n });
    expect(dueReport(failing, undefined)).toMatchObject({ verdict: FAILED, inARow: 2, incarnation: 4n });
    expect(dueReport(failing, written(FAILED, 2, { incarnation: 4n, spell: 9 }))).toBeUndefined();
    expect(dueReport(failing, written(FAILED, 2, { incarnation: 3n }))).toBeDefined();
    expect(dueReport(failing, written(FAILED, 1, { incarnation: 4n }))).toBeDefined();
    expect(dueReport(failing, "unknown")).toBeDefined();
  });

  it("is a vote for the return of a server that is not UP, anew in each of its states", () => {
    for (const state of [Server_State.SUSPECT, Server_State.DOWN]) {
      expect(dueReport(subject({ state }), undefined)).toMatchObject({ verdict: OK });
      expect(dueReport(subject({ state }), written(OK, 2))).toBeUndefined();
      expect(dueReport(subject({ state, spell: 2 }), written(OK, 2))).toMatchObject({ verdict: OK });
    }
  });

  it("leaves a doubt of a server that is observed no more, where anything was said", () => {
    expect(farewellReport(1n, undefined)).toBeUndefined();
    for (const before of [written(FAILED, 2), written(OK, 2), "unknown" as const]) {
      expect(farewellReport(1n, before)).toMatchObject({ verdict: TIMEOUT, inARow: 1, incarnation: 1n });
    }
    expect(farewellReport(1n, farewellReport(1n, "unknown"))).toBeUndefined();
  });
});
