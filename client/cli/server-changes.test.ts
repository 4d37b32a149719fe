import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { timestampFromMs } from "../../common/time.ts";
import {
  type Server,
  Server_Health_Cause,
  Server_State,
  ServerSchema,
} from "../../proto/gen/convoke/v1/server_pb.js";
import { describeChange } from "./server-changes.ts";

const at = (minutes: number) => timestampFromMs(Date.UTC(2030, 0, 1) + minutes * 60_000);

function server(more: Exclude<MessageInitShape<typeof ServerSchema>, Server> = {}): Server {
  return create(ServerSchema, {
    serverId: "s1",
    agentAddress: "10.0.0.1:9100",
    capacity: 500,
    incarnation: 3n,
    state: Server_State.UP,
    health: { cause: Server_Health_Cause.ANSWERS },
    ...more,
  });
}

const suspect = {
  state: Server_State.SUSPECT,
  health: { cause: Server_Health_Cause.TIMEOUTS, message: "2 of 3 observers\nget no answer" },
};
const drain = { deadline: at(30), conferenceCount: 200 };

test.each<[string, Server | undefined, Server, string]>([
  ["a server told for the first time", undefined, server(), "incarnation 3 at 10.0.0.1:9100"],
  [
    "a sick one told for the first time",
    undefined,
    server({ ...suspect, cordoned: true }),
    "2 of 3 observers get no answer; cordoned",
  ],
  ["another state", server(), server(suspect), "UP → SUSPECT: 2 of 3 observers get no answer"],
  ["another state without a message", server(suspect), server(), "SUSPECT → UP: answers"],
  [
    "another cause of the same state",
    server(suspect),
    server({
      state: Server_State.SUSPECT,
      health: { cause: Server_Health_Cause.HELD_BY_BRAKE, message: "held" },
    }),
    "held",
  ],
  [
    "a hold",
    server({ state: Server_State.DOWN, health: { cause: Server_Health_Cause.REFUSALS } }),
    server({ state: Server_State.DOWN, health: { cause: Server_Health_Cause.DAMPENED, holdUntil: at(1) } }),
    "dampened; not UP before 2030-01-01T00:01:00Z",
  ],
  ["a new life", server(), server({ incarnation: 4n }), "begins incarnation 4"],
  ["a cordon", server(), server({ cordoned: true }), "cordoned"],
  ["its end", server({ cordoned: true }), server(), "uncordoned"],
  [
    "a drain",
    server(),
    server({ cordoned: true, drain }),
    "draining 200 conferences, the rest moves at 2030-01-01T00:30:00Z",
  ],
  [
    "a drain with another deadline",
    server({ cordoned: true, drain }),
    server({ cordoned: true, drain: { ...drain, deadline: at(5) } }),
    "draining 200 conferences, the rest moves at 2030-01-01T00:05:00Z",
  ],
  [
    "a drain that is done",
    server({ cordoned: true, drain }),
    server({ cordoned: true, drain: { ...drain, done: true } }),
    "drained",
  ],
  ["a drain cancelled", server({ cordoned: true, drain }), server(), "drain cancelled; uncordoned"],
  [
    "what the agent says of itself",
    server(),
    server({ agentAddress: "10.0.0.2:9100", capacity: 600, region: "eu", labels: { gpu: "yes" } }),
    "agent 10.0.0.1:9100 → 10.0.0.2:9100; capacity 500 → 600; region - → eu; other labels",
  ],
  ["nothing", server({ reservedUnits: 1 }), server({ reservedUnits: 2 }), "as before"],
])("%s", (_what, before, after, text) => {
  expect(describeChange(before, after)).toBe(text);
});
