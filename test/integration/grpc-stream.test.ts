import { afterEach, describe, expect, it } from "vitest";
import { createConvokeClient } from "../../client/transport/client.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { type GrpcListener, listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";

describe("a server stream", () => {
  let listener: GrpcListener | undefined;
  afterEach(() => listener?.stop(0));

  it("is cancelled on the server as soon as its consumer leaves the loop", async () => {
    const unused = () => {
      throw new Error("not called");
    };
    const { promise: aborted, resolve: onAborted } = Promise.withResolvers<void>();
    listener = await listenGrpc({
      address: "127.0.0.1:0",
      services: [
        mounted(ServerService, {
          registerServer: unused,
          getServer: unused,
          listServers: unused,
          cordonServer: unused,
          uncordonServer: unused,
          drainServer: unused,
          listObservations: unused,
          getDetection: unused,
          releaseBrake: unused,
          removeServer: unused,
          async *watchServers(_request, { signal }) {
            signal.addEventListener("abort", () => onAborted(), { once: true });
            yield { revision: 1n, events: [] };
            // Nothing more comes, as on a quiet day: only the cancellation can end it.
            await aborted;
          },
        }),
      ],
    });
    using client = createConvokeClient({ endpoint: listener.address });
    for await (const { revision } of client.servers.watchServers({})) {
      expect(revision).toBe(1n);
      break;
    }
    await aborted;
  });
});
