import { describe, expect, it } from "vitest";
import { StoreError } from "../store.ts";
import { CallEnded, judgeFailure, Unreachable } from "./errors.ts";

const grpcError = (code: number, details: string) =>
  Object.assign(new Error(`${code} X: ${details}`), { code, details });

const sentWrite = { sent: true, changes: true, endpoint: "a:1" };

describe("what a failed call means", () => {
  it.each([
    [11, "etcdserver: mvcc: required revision has been compacted", "compacted"],
    [8, "etcdserver: mvcc: database space exceeded", "no_space"],
    [5, "etcdserver: requested lease not found", "lease_not_found"],
    [3, "etcdserver: too many operations in txn request", "too_many_operations"],
    [3, "etcdserver: request is too large", "invalid"],
    [8, "grpc: received message larger than max (2097200 vs. 2097152)", "invalid"],
    [3, "something new about the arguments", "invalid"],
  ])("%i %s is %s, and the member is kept", (code, details, expected) => {
    const failure = judgeFailure(grpcError(code, details), sentWrite);
    expect(failure).toMatchObject({ error: { code: expected }, leave: false, renewToken: false });
  });

  it.each([
    [14, "etcdserver: no leader", "unavailable"],
    [14, "etcdserver: leader changed", "unknown_outcome"],
    [14, "etcdserver: request timed out", "unknown_outcome"],
    [14, "etcdserver: request timed out, possibly due to previous leader failure", "unknown_outcome"],
    [14, "Connection dropped", "unknown_outcome"],
    [13, "Received RST_STREAM with code 2", "unknown_outcome"],
    [2, "something new", "unknown_outcome"],
  ])("%i %s is %s, and the member is left", (code, details, expected) => {
    const failure = judgeFailure(grpcError(code, details), sentWrite);
    expect(failure).toMatchObject({ error: { code: expected }, leave: true });
  });

  it("has an unknown outcome only when it was sent and can change something", () => {
    const dropped = grpcError(14, "Connection dropped");
    const codeOf = (state: { sent: boolean; changes: boolean }) =>
      judgeFailure(dropped, { ...state, endpoint: "a:1" }).error.code;
    expect(codeOf({ sent: true, changes: true })).toBe("unknown_outcome");
    expect(codeOf({ sent: true, changes: false })).toBe("unavailable");
    expect(codeOf({ sent: false, changes: true })).toBe("unavailable");
  });

  it.each([
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
  ])("%s asks for a new token and has changed nothing", (details) => {
    const failure = judgeFailure(grpcError(16, details), sentWrite);
    expect(failure).toMatchObject({ error: { code: "unavailable" }, leave: false, renewToken: true });
  });

  it("is told by the reason of a cancelled watch, too", () => {
    const reason = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    expect(judgeFailure(reason, sentWrite)).toMatchObject({ renewToken: true });
  });

  it("leaves a member that was too slow, and keeps one whose caller gave up", () => {
    const slow = judgeFailure(new CallEnded("deadline", "no answer"), sentWrite);
    expect(slow).toMatchObject({ error: { code: "unknown_outcome" }, leave: true, reconnect: true });
    const givenUp = judgeFailure(new CallEnded("aborted", "aborted"), sentWrite);
    expect(givenUp).toMatchObject({ error: { code: "unknown_outcome" }, leave: false });
  });

  it("has done nothing where there was no connection", () => {
    const failure = judgeFailure(new Unreachable("refused"), sentWrite);
    expect(failure).toMatchObject({ error: { code: "unavailable" }, leave: true, reconnect: true });
  });

  it("passes on what is an error of the store already", () => {
    const error = new StoreError("no_space", "full");
    expect(judgeFailure(error, sentWrite).error).toBe(error);
  });

  it("names the member, the text and the cause", () => {
    const cause = grpcError(14, "Connection dropped");
    const { error } = judgeFailure(cause, sentWrite);
    expect(error.message).toBe("etcd at a:1: Connection dropped");
    expect(error.cause).toBe(cause);
  });
});
