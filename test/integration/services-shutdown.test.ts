import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import { createConvokeClient } from "../../client/transport/client.ts";
import { listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { listenHttp } from "../../server/rpc/http-listener.ts";
import { type Clients, openControlPlane } from "../support/control-plane.ts";
import { within } from "../support/deadline.ts";
import { answerOf } from "../support/failures.ts";
import { openFaulty } from "../support/faulty-control-plane.ts";
import { conference, fetchAll, registerDispatcher } from "../support/scheduling.ts";

interface Port extends AsyncDisposable {
  readonly clients: Clients;
  stop(graceMs: number): Promise<void>;
}

type Services = Parameters<typeof listenGrpc>[0]["services"];

const PORTS: Record<string, (services: Services) => Promise<Port>> = {
  async gRPC(services) {
    const listener = await listenGrpc({ address: "127.0.0.1:0", services });
    const clients = createConvokeClient({ endpoint: listener.address });
    return {
      clients,
      stop: (graceMs) => listener.stop(graceMs),
      async [Symbol.asyncDispose]() {
        clients.close();
        await listener.stop(0);
      },
    };
  },
  async HTTP(services) {
    const listener = await listenHttp({ address: "127.0.0.1:0", services, isReady: () => true });
    const transport = createConnectTransport({ baseUrl: `http://${listener.address}`, httpVersion: "1.1" });
    const clients = {
      dispatchers: createClient(DispatcherService, transport),
      conferences: createClient(ConferenceService, transport),
      servers: createClient(ServerService, transport),
    };
    return {
      clients,
      stop: (graceMs) => listener.stop(graceMs),
      [Symbol.asyncDispose]: () => listener.stop(0),
    };
  },
};

const shuttingDown = { code: Code.Unavailable, reason: ErrorReason.SHUTTING_DOWN };

describe.each(Object.entries(PORTS))("the %s port", (_, open) => {
  it("ends watches and waiting fetches with UNAVAILABLE when it stops", async () => {
    await using plane = await openControlPlane();
    await using port = await open(plane.replica.services);
    const { clients } = port;
    const dispatcher = await registerDispatcher(clients, "d1", 600_000);
    const begun = [0, 1, 2].map(() => Promise.withResolvers<void>());
    const watch = async (messages: AsyncIterable<unknown>, index: number) => {
      for await (const _message of messages) begun[index]?.resolve();
    };
    const idle = plane.clock.pending;
    const answers = [
      answerOf(watch(clients.conferences.watchDispatches({}), 0)),
      answerOf(watch(clients.servers.watchServers({}), 1)),
      answerOf(watch(clients.dispatchers.watchDispatchers({}), 2)),
      answerOf(fetchAll(clients, { ...dispatcher, wait: { seconds: 60n } })),
    ];
    await within("the streams", Promise.all(begun.map(({ promise }) => promise)));
    await plane.clock.armed(idle + 4);
    await within("the stop", port.stop(60_000));
    expect(await Promise.all(answers)).toEqual(Array(4).fill(shuttingDown));
    await expect.poll(() => plane.clock.pending, { timeout: 30_000 }).toBe(idle);
    expect(plane.complaints).toEqual([]);
  });

  it("lets a write under way finish, and takes nothing new", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    await using port = await open(plane.replica.services);
    const entered = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    faulty.afterTxn = async () => {
      entered.resolve();
      await release.promise;
    };
    const call = port.clients.conferences.createConference({ conference: conference(plane, "one") });
    await within("the write", entered.promise);
    const stopped = port.stop(60_000);
    release.resolve();
    expect((await call).conference?.conferenceId).toBe("one");
    await within("the stop", stopped);
    const { code } = await answerOf(port.clients.conferences.getConference({ conferenceId: "one" }));
    expect(code).not.toBe(0);
  });

  it("answers DEADLINE_EXCEEDED when the store takes longer than the caller allows", async () => {
    const { plane, faulty } = await openFaulty();
    await using _plane = plane;
    await using port = await open(plane.replica.services);
    const release = Promise.withResolvers<void>();
    faulty.afterTxn = () => release.promise;
    const request = { conference: conference(plane, "one") };
    expect(
      await answerOf(port.clients.conferences.createConference(request, { timeoutMs: 100 })),
    ).toMatchObject({
      code: Code.DeadlineExceeded,
    });
    release.resolve();
    expect(plane.complaints).toEqual([]);
  });
});
