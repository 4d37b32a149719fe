import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  type DispatchEvent,
  DispatchEventSchema,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatchSchema } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import type { WatchUpdate } from "../../watch.ts";
import { createMoves, percentile } from "./moves.ts";

const row = (conferenceId: string, serverId: string, epoch: bigint) =>
  create(DispatchSchema, { conferenceId, serverId, epoch });
const updateOf = (...events: DispatchEvent[]): WatchUpdate<DispatchEvent> => ({
  kind: "events",
  revision: 1n,
  events,
});
const put = (...[id, server, epoch]: Parameters<typeof row>) =>
  create(DispatchEventSchema, { type: EventType.PUT, dispatch: row(id, server, epoch) });
const gone = (...[id, server, epoch]: Parameters<typeof row>) =>
  create(DispatchEventSchema, { type: EventType.DELETE, dispatch: row(id, server, epoch) });

describe("moves", () => {
  const BEFORE = [row("a", "s1", 1n), row("b", "s1", 2n), row("c", "s2", 3n), row("d", "s2", 4n)];

  it("counts a conference once its row names another server and a higher epoch, at the first such row", () => {
    const moves = createMoves(BEFORE, "s1");
    expect(moves.expected).toBe(2);
    expect(moves.apply(updateOf(gone("a", "s1", 1n), put("a", "s1", 1n), put("b", "s1", 7n)), 100)).toEqual(
      [],
    );
    expect(moves.apply(updateOf(put("a", "s2", 9n)), 110).map(({ conferenceId }) => conferenceId)).toEqual([
      "a",
    ]);
    expect(moves.apply(updateOf(put("a", "s2", 9n)), 120)).toEqual([]);
    expect(moves.readableAtMs).toEqual([110]);
    expect(moves.othersMoved.size).toBe(0);
  });

  it("takes the later of what the watch told and what another client could read", () => {
    const moves = createMoves(BEFORE, "s1");
    moves.apply(updateOf(put("a", "s2", 9n), put("b", "s2", 8n)), 110);
    moves.readable("a", 130);
    moves.readable("b", 90);
    expect(moves.readableAtMs).toEqual([110, 130]);
  });

  it("notices any change of another server's rows (I8)", () => {
    const moves = createMoves(BEFORE, "s1");
    moves.apply(updateOf(put("c", "s2", 3n)), 100);
    expect(moves.othersMoved.size).toBe(0);
    moves.apply(updateOf(put("c", "s2", 5n), gone("d", "s2", 4n)), 110);
    expect([...moves.othersMoved]).toEqual(["c", "d"]);
  });

  it("believes the rows at the end more than the watch", () => {
    const moves = createMoves(BEFORE, "s1");
    moves.apply(updateOf(put("a", "s2", 9n), put("b", "s2", 8n)), 110);
    moves.compare([row("a", "s2", 9n), row("c", "s2", 3n), row("d", "s3", 10n)]);
    expect(moves.readableAtMs).toEqual([110]);
    expect([...moves.othersMoved]).toEqual(["d"]);
  });
});

describe("percentile", () => {
  it("is the value that so many do not exceed", () => {
    const values = Array.from({ length: 1_000 }, (_, index) => index + 1);
    expect(percentile(values, 0.5)).toBe(500);
    expect(percentile(values, 0.99)).toBe(990);
    expect(percentile(values, 1)).toBe(1_000);
    expect(percentile([5], 0.99)).toBe(5);
    expect(percentile([], 0.99)).toBeUndefined();
  });
});
