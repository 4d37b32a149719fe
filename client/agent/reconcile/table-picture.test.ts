import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import { timestampFromMs } from "../../../common/time.ts";
import {
  DispatchEvent_Cause as Cause,
  type DispatchEvent,
  DispatchEventSchema,
} from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { Dispatch_MoveReason } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import type { HostedConference } from "../hosted.ts";
import { createTablePicture, type TablePicture } from "./table-picture.ts";

const hosted = new Map<string, HostedConference>();
let stopped: string[];
let fenced: string[];
let updated: string[];
let lost: string[];
let picture: TablePicture;

beforeEach(() => {
  hosted.clear();
  stopped = [];
  fenced = [];
  updated = [];
  lost = [];
  picture = createTablePicture({
    serverId: "s1",
    hosted: {
      get: (id) => hosted.get(id),
      all: () => hosted.values(),
      fence: (id, epoch) => void fenced.push(`${id}@${epoch}`),
      update: (id, epoch, { validUntilMs, weight }) =>
        void updated.push(`${id}@${epoch} until ${validUntilMs}, ${weight} units`),
    },
    stop: ({ conferenceId, dispatchEpoch }, cause, lingers) =>
      void stopped.push(`${conferenceId}@${dispatchEpoch}: ${cause}${lingers ? ", after a while" : ""}`),
    onLost: (cause) => void lost.push(cause),
  });
});

function host(conferenceId: string, epoch: number) {
  const conference: HostedConference = {
    conferenceId,
    dispatchEpoch: BigInt(epoch),
    address: "",
    weight: 1,
    startTimeMs: 0,
    epochSinceMs: 0,
    validUntilMs: Number.POSITIVE_INFINITY,
    adopted: false,
  };
  hosted.set(conferenceId, conference);
  return conference;
}

function event(type: EventType, conferenceId: string, epoch: number, serverId: string, cause: Cause) {
  return create(DispatchEventSchema, {
    type,
    dispatch: { conferenceId, epoch: BigInt(epoch), serverId },
    cause,
  });
}
const put = (id: string, epoch: number, serverId = "s1") =>
  event(EventType.PUT, id, epoch, serverId, Cause.PLACED);
const gone = (id: string, epoch: number, cause = Cause.ENDED, serverId = "s1") =>
  event(EventType.DELETE, id, epoch, serverId, cause);
const drained = (id: string, epoch: number, serverId: string, previousServerId: string) =>
  create(DispatchEventSchema, {
    type: EventType.PUT,
    dispatch: {
      conferenceId: id,
      epoch: BigInt(epoch),
      serverId,
      previousServerId,
      moveReason: Dispatch_MoveReason.DRAIN,
    },
    cause: Cause.MOVED,
  });
const tell = (revision: number, ...events: DispatchEvent[]) =>
  picture.apply({ revision: BigInt(revision), events });

/** A complete table: its rows, and then the message that says how far they reach. */
function snapshot(revision: number, ...rows: DispatchEvent[]) {
  picture.startOver();
  if (rows.length > 0) tell(0, ...rows);
  tell(revision);
}

test("the loss of this server's life is told, since it is not about one conference", () => {
  host("a", 10);
  snapshot(5);
  tell(20, gone("a", 10, Cause.SERVER_LOST));
  expect(stopped).toEqual([]);
  expect(lost).toEqual(["dispatch is void: SERVER_LOST"]);
});

test("its own row says until when it may run and what it takes, one of another epoch does not", () => {
  host("a", 10);
  snapshot(5);
  const row = (epoch: number, validUntilMs: number) =>
    create(DispatchEventSchema, {
      type: EventType.PUT,
      dispatch: {
        conferenceId: "a",
        epoch: BigInt(epoch),
        serverId: "s1",
        validUntil: timestampFromMs(validUntilMs),
        weight: 4,
      },
      cause: Cause.UPDATED,
    });
  tell(20, row(10, 7_000));
  tell(21, row(9, 9_000));
  expect(updated).toEqual(["a@10 until 7000, 4 units"]);
});

describe("one event", () => {
  beforeEach(() => {
    host("a", 10);
    snapshot(5);
  });

  test.each([
    ["its own row confirms it", put("a", 10), [], true],
    ["an older row elsewhere is the past", put("a", 9, "s2"), [], false],
    ["an older row here is the past", put("a", 9), [], false],
    ["the end of an older row is the past", gone("a", 9, Cause.SERVER_LOST), [], false],
    ["a newer row elsewhere stops it", put("a", 11, "s2"), ["a@10: dispatched to another server"], false],
    ["the same epoch elsewhere stops it", put("a", 10, "s2"), ["a@10: dispatched to another server"], false],
    ["a newer row here stops it", put("a", 11), ["a@10: dispatched under a higher epoch"], false],
    ["its end stops it", gone("a", 10), ["a@10: dispatch is void: ENDED"], false],
    [
      "its cancellation stops it",
      gone("a", 10, Cause.CANCELLED),
      ["a@10: dispatch is void: CANCELLED"],
      false,
    ],
    [
      "the loss of another server under a newer row stops it",
      gone("a", 12, Cause.SERVER_LOST, "s2"),
      ["a@10: dispatch is void: SERVER_LOST"],
      false,
    ],
    [
      "a move that a drain of this server made stops it after a while",
      drained("a", 11, "s2", "s1"),
      ["a@10: dispatched to another server, after a while"],
      false,
    ],
    [
      "a move that a drain of another server made stops it",
      drained("a", 11, "s2", "s3"),
      ["a@10: dispatched to another server"],
      false,
    ],
    [
      "the end of a newer row stops it",
      gone("a", 12, Cause.ENDED, "s2"),
      ["a@10: dispatch is void: ENDED"],
      false,
    ],
    ["a row of another conference is nothing to it", put("b", 99, "s2"), [], false],
  ])("%s", (_, given, expected, confirmed) => {
    tell(20, given);
    expect(stopped).toEqual(expected);
    const [conference] = hosted.values();
    expect(conference && picture.isConfirmed(conference)).toBe(confirmed);
  });
});

describe("a whole table", () => {
  test("stops what it once confirmed and no longer has, once it is complete", () => {
    for (const id of ["a", "b"]) host(id, 10);
    snapshot(20, put("a", 10), put("b", 10));
    picture.startOver();
    tell(0, put("b", 10));
    expect(stopped).toEqual([]);
    tell(30);
    expect(stopped).toEqual(["a@10: missing from the dispatch table"]);
  });

  test("says nothing about what it has never confirmed", () => {
    host("a", 10);
    snapshot(20);
    snapshot(30);
    expect(stopped).toEqual([]);
  });

  test("says nothing about a higher epoch than the one it confirmed", () => {
    host("a", 10);
    snapshot(20, put("a", 10));
    host("a", 25);
    snapshot(30);
    expect(stopped).toEqual([]);
  });

  test("of a replica that lags says nothing about what came after it", () => {
    const started = host("a", 40);
    host("b", 10);
    snapshot(15);
    tell(45, put("a", 40), put("b", 10));
    expect(picture.isConfirmed(started)).toBe(true);
    // a was claimed after revision 30, b was claimed before and committed after.
    snapshot(30);
    expect(stopped).toEqual([]);
    snapshot(45);
    expect(stopped).toEqual([
      "a@40: missing from the dispatch table",
      "b@10: missing from the dispatch table",
    ]);
  });

  test("a row confirmed by a snapshot counts as confirmed at its revision", () => {
    host("a", 10);
    snapshot(50, put("a", 10));
    snapshot(40);
    expect(stopped).toEqual([]);
    snapshot(50);
    expect(stopped).toHaveLength(1);
  });

  test("cut off in the middle is read again, and what was seen then does not count", () => {
    host("a", 10);
    snapshot(20, put("a", 10));
    picture.startOver();
    tell(0, put("a", 10));
    picture.interrupted();
    expect(picture.begin()).toBe(0n);
    tell(30);
    expect(stopped).toEqual(["a@10: missing from the dispatch table"]);
  });
});

test("a complete table is resumed from the last revision told", () => {
  expect(picture.begin()).toBe(0n);
  tell(20);
  expect(picture.begin()).toBe(20n);
  tell(21, put("b", 1));
  expect(picture.begin()).toBe(21n);
});

test("the revision reached is unknown while the watch is broken", () => {
  tell(20);
  expect(picture.reachedRevision).toBe(20n);
  picture.interrupted();
  expect(picture.reachedRevision).toBe(0n);
  tell(22);
  expect(picture.reachedRevision).toBe(22n);
});

test("what the table has elsewhere or no more is fenced off, and what it has here is not", () => {
  snapshot(20, put("a", 5, "s2"), put("b", 6, "s1"));
  tell(21, gone("c", 7), put("d", 8, "s3"));
  expect(fenced).toEqual(["a@5", "c@7", "d@8"]);
});
