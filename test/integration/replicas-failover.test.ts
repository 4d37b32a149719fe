import { createServer, type Server, type Socket } from "node:net";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { type ConvokeClient, createConvokeClient } from "../../client/transport/client.ts";
import { formatAddress } from "../../common/address.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { statusError } from "../../common/rpc/status.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";

type Handlers = Partial<ServiceImpl<typeof ConferenceService> & ServiceImpl<typeof ServerService>>;

/** What a replica does with a call, and how often it was called. */
interface Stub {
  readonly endpoint: string;
  readonly calls: string[];
  stop(graceMs: number): Promise<void>;
}

const ANSWERS: Handlers = {
  getConference: async ({ conferenceId }) => ({ conference: { conferenceId } }),
  updateConference: async () => ({}),
  requeueConference: async () => ({}),
  async *watchServers({ revision }) {
    yield { revision: revision + 1n, events: [] };
  },
};

describe("a client of several replicas", () => {
  let stack = new AsyncDisposableStack();
  afterEach(async () => {
    await stack.disposeAsync();
    stack = new AsyncDisposableStack();
  });

  async function replica(name: string, log: string[], handlers: Handlers = {}): Promise<Stub> {
    const all = { ...ANSWERS, ...handlers } as Record<string, (...args: never[]) => unknown>;
    const handler = (method: string) => {
      return (...args: never[]) => {
        log.push(`${name} ${method}`);
        const answer = all[method];
        if (!answer) throw new Error(`${method} is not expected`);
        return answer(...args);
      };
    };
    const services = [ConferenceService, ServerService].map((service) =>
      mounted(
        service,
        Object.fromEntries(service.methods.map(({ localName }) => [localName, handler(localName)])) as never,
      ),
    );
    const listener = await listenGrpc({ address: "127.0.0.1:0", services });
    stack.defer(() => listener.stop(0));
    return { endpoint: listener.address, calls: log, stop: (graceMs) => listener.stop(graceMs) };
  }

  /** Takes connections and says nothing, as a process that is stopped does. */
  async function mute(): Promise<string> {
    const sockets = new Set<Socket>();
    const server: Server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    stack.defer(async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    const address = server.address();
    return formatAddress("127.0.0.1", typeof address === "object" && address ? address.port : 0);
  }

  /** Tries the replicas in the order given. */
  function clientOf(...endpoints: string[]): ConvokeClient {
    const client = createConvokeClient({ endpoint: endpoints, random: () => 0 });
    stack.defer(() => client.close());
    return client;
  }

  const broken = async () => {
    throw new ConnectError("broken on purpose", Code.Unavailable);
  };
  const ask = (client: ConvokeClient, timeoutMs = 5_000) =>
    client.conferences.getConference({ conferenceId: "c" }, { timeoutMs });

  it("goes to the next when nobody listens, and tells what the system said when nobody does at all", async () => {
    const log: string[] = [];
    const { endpoint } = await replica("b", log);
    const client = clientOf("127.0.0.1:1", endpoint);
    await ask(client);
    await client.conferences.updateConference({});
    expect(log).toEqual(["b getConference", "b updateConference"]);
    await expect(ask(clientOf("127.0.0.1:1", "127.0.0.1:2"))).rejects.toThrow(/ECONNREFUSED/);
  });

  it("repeats what may be repeated, once a replica, and nothing else", async () => {
    const log: string[] = [];
    const a = await replica("a", log, { getConference: broken, updateConference: broken });
    const b = await replica("b", log, { getConference: broken, updateConference: broken });
    await expect(ask(clientOf(a.endpoint, b.endpoint))).rejects.toMatchObject({ code: Code.Unavailable });
    const update = clientOf(a.endpoint, b.endpoint).conferences.updateConference({});
    await expect(update).rejects.toMatchObject({ code: Code.Unavailable });
    expect(log).toEqual(["a getConference", "b getConference", "a updateConference"]);
  });

  it("sends anything again that was refused before anything was done", async () => {
    const log: string[] = [];
    const frozen = async () => {
      throw statusError(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, "no store", {
        metadata: { effect: "none" },
      });
    };
    const a = await replica("a", log, { updateConference: frozen, requeueConference: frozen });
    const b = await replica("b", log);
    const client = clientOf(a.endpoint, b.endpoint);
    await client.conferences.updateConference({});
    // It is left alone for a while.
    await client.conferences.requeueConference({});
    expect(log).toEqual(["a updateConference", "b updateConference", "b requeueConference"]);
  });

  it("leaves answers alone that speak of the request and not of the replica", async () => {
    const log: string[] = [];
    const a = await replica("a", log, {
      getConference: async () => {
        throw statusError(Code.NotFound, ErrorReason.CONFERENCE_NOT_FOUND, "there is none");
      },
    });
    const b = await replica("b", log);
    const client = clientOf(a.endpoint, b.endpoint);
    await expect(ask(client)).rejects.toMatchObject({ code: Code.NotFound });
    await expect(ask(client)).rejects.toMatchObject({ code: Code.NotFound });
    expect(log).toEqual(["a getConference", "a getConference"]);
  });

  it("does not wait for one that takes connections and says nothing", async () => {
    const log: string[] = [];
    const { endpoint } = await replica("b", log);
    const client = clientOf(await mute(), endpoint);
    await ask(client, 3_000);
    await client.conferences.updateConference({}, { timeoutMs: 3_000 });
    expect(log).toEqual(["b getConference", "b updateConference"]);
  });

  it("waits for one that takes long and says that it lives", async () => {
    const log: string[] = [];
    let waitMs = 2_500;
    const a = await replica("a", log, {
      getConference: async ({ conferenceId }) => {
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        return { conference: { conferenceId } };
      },
    });
    const b = await replica("b", log);
    const client = clientOf(a.endpoint, b.endpoint);
    // It is asked after 2 s whether it lives.
    await ask(client, 10_000);
    waitMs = 0;
    await ask(client);
    expect(log).toEqual(["a getConference", "a getConference"]);
  });

  it("leaves one that shuts down, finishing what it has begun there", async () => {
    const log: string[] = [];
    const begun = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const a = await replica("a", log, {
      async requeueConference() {
        begun.resolve();
        await finish.promise;
        return {};
      },
    });
    const b = await replica("b", log);
    const client = clientOf(a.endpoint, b.endpoint);
    const requeued = client.conferences.requeueConference({});
    await begun.promise;
    const stopped = a.stop(5_000);
    await client.conferences.updateConference({});
    finish.resolve();
    await requeued;
    await stopped;
    expect(log).toEqual(["a requeueConference", "b updateConference"]);
  });

  it("opens a stream on the next as long as nothing has come, and after that leaves it to its consumer", async () => {
    const log: string[] = [];
    const a = await replica("a", log, {
      // biome-ignore lint/correctness/useYield: it breaks off before it says anything.
      async *watchServers() {
        throw new ConnectError("broken on purpose", Code.Unavailable);
      },
    });
    const b = await replica("b", log, {
      async *watchServers({ revision }) {
        yield { revision: revision + 1n, events: [] };
        throw new ConnectError("broken on purpose", Code.Unavailable);
      },
    });
    const c = await replica("c", log);
    const client = clientOf(a.endpoint, b.endpoint, c.endpoint);
    const told: bigint[] = [];
    const watch = async () => {
      for await (const { revision } of client.servers.watchServers({ revision: 7n })) told.push(revision);
    };
    await expect(watch()).rejects.toMatchObject({ code: Code.Unavailable });
    await watch();
    expect(told).toEqual([8n, 8n]);
    expect(log).toEqual(["a watchServers", "b watchServers", "c watchServers"]);
  });

  it("ends at once when its caller gives up, wherever it is", async () => {
    const log: string[] = [];
    const { endpoint } = await replica("b", log, { getConference: () => new Promise(() => {}) });
    for (const client of [clientOf(endpoint, await mute()), clientOf(await mute(), endpoint)]) {
      const abort = new AbortController();
      const call = client.conferences.getConference({ conferenceId: "c" }, { signal: abort.signal });
      setTimeout(() => abort.abort(), 50);
      await expect(call).rejects.toMatchObject({ code: Code.Canceled });
    }
  });
});
