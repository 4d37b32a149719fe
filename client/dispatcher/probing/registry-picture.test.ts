import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { DispatcherService } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createRegistryPicture } from "./registry-picture.ts";

const event = (type: EventType, dispatcherId: string) => ({ type, dispatcher: { dispatcherId } });
const put = (dispatcherId: string) => event(EventType.PUT, dispatcherId);
const gone = (dispatcherId: string) => event(EventType.DELETE, dispatcherId);

describe("the picture of the registry", () => {
  it("has a list when it is complete, follows changes, and keeps what it knows while it is told anew", async () => {
    const clock = createFakeClock();
    const asked: bigint[] = [];
    const streams: (() => AsyncGenerator<{ revision: bigint; events: ReturnType<typeof put>[] }>)[] = [
      async function* () {
        yield { revision: 0n, events: [put("d1")] };
        yield { revision: 5n, events: [put("d2")] };
        yield { revision: 6n, events: [put("d3"), gone("d1")] };
        yield { revision: 7n, events: [] };
        throw new ConnectError("the replica stops", Code.Unavailable);
      },
      // Resumed, but what was missed is no longer kept.
      async function* () {
        yield* [];
        throw new ConnectError("compacted", Code.OutOfRange);
      },
      async function* () {
        yield { revision: 9n, events: [put("d3"), put("d4")] };
        throw new ConnectError("gone for good", Code.PermissionDenied);
      },
      // After what waiting does not mend it begins from nothing.
      async function* () {
        yield { revision: 12n, events: [put("d4")] };
        await new Promise(() => {});
      },
    ];
    const transport = createRouterTransport(({ service }) => {
      service(DispatcherService, {
        watchDispatchers({ revision }) {
          asked.push(revision);
          return (streams.shift() ?? async function* () {})();
        },
      });
    });
    const picture = createRegistryPicture({
      client: createClient(DispatcherService, transport),
      clock,
      logger: pino({ level: "silent" }),
      random: () => 0,
    });
    const seen: string[] = [];
    const forget = picture.onChange(() => seen.push([...picture.ids].sort().join(",")));
    const stop = new AbortController();
    void picture.follow(stop.signal);
    for (let turn = 0; turn < 50; turn++) await clock.advance(100);
    expect(asked).toEqual([0n, 7n, 0n, 0n]);
    expect(seen).toEqual(["d1,d2", "d2,d3", "d3,d4", "d4"]);
    forget();
    stop.abort();
  });
});
