import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import {
  DispatchEvent_Cause as Cause,
  type DispatchEvent,
  DispatchEventSchema,
} from "../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason } from "../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../proto/gen/convoke/v1/watch_pb.js";
import type { WatchUpdate } from "./watch.ts";
import { createWhereabouts } from "./whereabouts.ts";

const eventOf = (type: EventType, cause: Cause, serverId: string, epoch: bigint, previousServerId = "") =>
  create(DispatchEventSchema, {
    type,
    cause,
    dispatch: {
      conferenceId: "c1",
      serverId,
      epoch,
      address: `ws://${serverId}`,
      previousServerId,
      moveReason: previousServerId ? Dispatch_MoveReason.SERVER_DOWN : Dispatch_MoveReason.UNSPECIFIED,
    },
  });
const put = (serverId: string, epoch: bigint, cause = Cause.PLACED, previous = "") =>
  eventOf(EventType.PUT, cause, serverId, epoch, previous);
const updateOf = (...events: DispatchEvent[]): WatchUpdate<DispatchEvent> => ({
  kind: "events",
  revision: 1n,
  events,
});
const RESTART: WatchUpdate<DispatchEvent> = {
  kind: "restart",
  cause: new ConnectError("compacted", Code.OutOfRange),
};

describe("whereabouts", () => {
  const followed = () => {
    const told: string[] = [];
    const whereabouts = createWhereabouts();
    const following = whereabouts.follow("c1", {
      placed: ({ address, epoch, previousServerId, moveReason }) =>
        told.push(`${address} ${epoch} ${previousServerId || "–"} ${Dispatch_MoveReason[moveReason]}`),
      over: ({ serverId }) => told.push(`over on ${serverId}`),
    });
    return { told, whereabouts, following };
  };

  it("tell each place once, with where it was before and why it is no longer there", () => {
    const { told, whereabouts } = followed();
    whereabouts.apply(updateOf(put("s1", 5n)));
    whereabouts.apply(updateOf(eventOf(EventType.DELETE, Cause.SERVER_LOST, "s1", 5n)));
    expect(whereabouts.get("c1")).toBeUndefined();
    whereabouts.apply(updateOf(put("s2", 9n, Cause.MOVED, "s1"), put("s2", 9n, Cause.UPDATED, "s1")));
    expect(told).toEqual(["ws://s1 5 – UNSPECIFIED", "ws://s2 9 s1 SERVER_DOWN"]);
    expect(whereabouts.get("c1")?.serverId).toBe("s2");
  });

  it("tell at once where a conference is that is followed late", () => {
    const { told, whereabouts } = followed();
    whereabouts.apply(updateOf(put("s1", 5n)));
    const late: string[] = [];
    whereabouts.follow("c1", { placed: ({ serverId }) => late.push(serverId) });
    expect(late).toEqual(["s1"]);
    expect(told).toHaveLength(1);
  });

  it("tell nothing twice when the watch begins again, but a move that it missed", () => {
    const { told, whereabouts } = followed();
    whereabouts.apply(updateOf(put("s1", 5n)));
    whereabouts.apply(RESTART);
    expect(whereabouts.get("c1")).toBeUndefined();
    whereabouts.apply(updateOf(put("s1", 5n, Cause.EXISTING)));
    expect(told).toHaveLength(1);
    whereabouts.apply(RESTART);
    whereabouts.apply(updateOf(put("s2", 9n, Cause.EXISTING, "s1")));
    expect(told.at(-1)).toBe("ws://s2 9 s1 SERVER_DOWN");
  });

  it("tell the end of a conference, and nothing to who follows no longer", () => {
    const { told, whereabouts, following } = followed();
    whereabouts.apply(updateOf(put("s1", 5n), eventOf(EventType.DELETE, Cause.ENDED, "s1", 5n)));
    expect(told.at(-1)).toBe("over on s1");
    following[Symbol.dispose]();
    whereabouts.apply(updateOf(put("s2", 9n)));
    expect(told).toHaveLength(2);
  });
});
