import type { AddressInfo } from "node:net";
import { createServer, type Server as NetServer } from "node:net";
import { Code } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../common/clock.ts";
import { mounted } from "../../../common/rpc/grpc-adapter.ts";
import { type GrpcListener, listenGrpc } from "../../../common/rpc/grpc-listener.ts";
import { statusError } from "../../../common/rpc/status.ts";
import { AgentService, type KeepaliveRequest } from "../../../proto/gen/convoke/v1/agent_service_pb.js";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { eventually } from "../../../test/support/eventually.ts";
import { type AgentClient, createAgentClient } from "../../transport/client.ts";
import { checkPort } from "./check-port.ts";
import { probeServer } from "./probe.ts";

type Answer = (request: KeepaliveRequest) => { serverId: string; incarnation?: bigint };

describe("a probe", () => {
  const cleanups: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function agentAt(address: string, answer: Answer): Promise<GrpcListener> {
    const never = () => {
      throw new Error("not asked for");
    };
    const listener = await listenGrpc({
      address,
      services: [
        mounted(AgentService, {
          keepalive: answer,
          startConferences: never,
          stopConferences: never,
          listHostedConferences: never,
        }),
      ],
    });
    cleanups.push(() => listener.stop(0));
    return listener;
  }

  /** A line to an address whose client can be renewed, as the server table's can. */
  function lineTo(address: string) {
    const clients: AgentClient[] = [];
    const connect = () => {
      const client = createAgentClient(address);
      clients.push(client);
      return client;
    };
    cleanups.push(() => {
      for (const client of clients) client.close();
    });
    return { client: connect(), renewed: connect, clients };
  }

  const targetAt = (agentAddress: string) => ({
    serverId: "s1",
    agentAddress,
    incarnation: 3n,
    state: Server_State.SUSPECT,
  });
  function probe(address: string, line = lineTo(address), timeoutMs = 5_000, check = checkPort) {
    const options = { dispatcherId: "d1", timeoutMs, checkPort: check, clock: systemClock };
    return probeServer(targetAt(address), line, options, new AbortController().signal);
  }

  async function silentPort(): Promise<string> {
    const server: NetServer = createServer((socket) => {
      socket.on("error", () => {});
      cleanups.push(() => void socket.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => void server.close());
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async function refusedPort(): Promise<string> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise<void>((resolve) => server.close(() => resolve()));
    return `127.0.0.1:${port}`;
  }

  it("is ok when the server answers, whatever its incarnation, and tells it what the caller knows", async () => {
    const requests: KeepaliveRequest[] = [];
    const { address } = await agentAt("127.0.0.1:0", (request) => {
      requests.push(request);
      return { serverId: "s1", incarnation: 4n };
    });
    expect(await probe(address)).toEqual({ kind: "ok", detail: "" });
    expect(requests).toMatchObject([
      { dispatcherId: "d1", incarnation: 3n, serverState: Server_State.SUSPECT },
    ]);
  });

  it("is an error when another server answers at the address", async () => {
    const { address } = await agentAt("127.0.0.1:0", () => ({ serverId: "s2" }));
    expect(await probe(address)).toEqual({ kind: "error", detail: `at ${address} answers server "s2"` });
  });

  it("is unhealthy when the agent says so, and an error when it says anything else", async () => {
    let reason = ErrorReason.SERVER_UNAVAILABLE;
    const { address } = await agentAt("127.0.0.1:0", () => {
      throw statusError(Code.Unavailable, reason, "the media engine is gone");
    });
    expect(await probe(address)).toEqual({ kind: "unhealthy", detail: "the media engine is gone" });
    reason = ErrorReason.SHUTTING_DOWN;
    expect(await probe(address)).toMatchObject({ kind: "error" });
  });

  it("is refused when nothing listens there, again and again, and ok as soon as something does", async () => {
    const address = await refusedPort();
    const line = lineTo(address);
    for (let time = 0; time < 3; time++)
      expect(await probe(address, line)).toMatchObject({ kind: "refused" });
    await agentAt(address, () => ({ serverId: "s1" }));
    // The channel still waits before it connects again; the probe does not.
    expect(await probe(address, line)).toEqual({ kind: "ok", detail: "" });
  });

  it("is a timeout when the port is open and says nothing, within its time", async () => {
    const address = await silentPort();
    expect(await probe(address, lineTo(address), 200)).toEqual({
      kind: "timeout",
      detail: "no answer within 200 ms",
    });
  });

  it.each(["silent", "unreachable"] as const)("is a timeout when the network is %s", async (state) => {
    const address = await refusedPort();
    const result = await probe(address, lineTo(address), 5_000, async () => state);
    expect(result.kind).toBe("timeout");
  });

  it("ends with its caller", async () => {
    const address = await silentPort();
    const abort = new AbortController();
    const options = { dispatcherId: "d1", timeoutMs: 60_000, checkPort, clock: systemClock };
    const running = probeServer(targetAt(address), lineTo(address), options, abort.signal);
    abort.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
  });

  it("is called for when a connection breaks", async () => {
    const listener = await agentAt("127.0.0.1:0", () => ({ serverId: "s1" }));
    const { client } = lineTo(listener.address);
    await client.keepalive({});
    let broken = 0;
    client.onceDisconnected?.(() => broken++);
    await client.keepalive({});
    expect(broken).toBe(0);
    await listener.stop(0);
    await eventually(() => broken).toBe(1);
  });
});
