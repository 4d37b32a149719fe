import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { type AgentClient, createAgentClient } from "../../client/transport/client.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { type GrpcListener, listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { reasonOf, statusError } from "../../common/rpc/status.ts";
import { createValidator } from "../../common/rpc/validator.ts";
import {
  AgentService,
  KeepaliveResponseSchema,
  ListHostedConferencesResponseSchema,
} from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { RetryInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.js";

describe("a gRPC listener", () => {
  const opened: { listener: GrpcListener; client: AgentClient }[] = [];
  afterEach(async () => {
    for (const { client, listener } of opened.splice(0)) {
      client.close();
      await listener.stop(0);
    }
  });

  async function open(impl: Parameters<typeof mounted<typeof AgentService>>[1]) {
    const listener = await listenGrpc({ address: "127.0.0.1:0", services: [mounted(AgentService, impl)] });
    const client = createAgentClient(listener.address);
    opened.push({ listener, client });
    return { listener, client };
  }
  const unused = () => {
    throw new Error("not called");
  };
  const rest = { startConferences: unused, stopConferences: unused, listHostedConferences: unused };

  it("serves typed requests and responses", async () => {
    const { client } = await open({
      ...rest,
      keepalive: ({ dispatcherId }) => create(KeepaliveResponseSchema, { serverId: `for-${dispatcherId}` }),
    });
    expect((await client.keepalive({ dispatcherId: "d1" })).serverId).toBe("for-d1");
  });

  it("carries code, message, reason, violations and retry advice", async () => {
    const { client } = await open({
      ...rest,
      keepalive() {
        throw statusError(Code.Unavailable, ErrorReason.STORE_UNAVAILABLE, "nobody home: ü", {
          retryAfterMs: 1500,
        });
      },
      listHostedConferences({ pageSize }) {
        const check = createValidator();
        check.integer("page_size", pageSize, { min: 1, max: 2 });
        check.done();
        return create(ListHostedConferencesResponseSchema);
      },
    });
    const error = await client.keepalive({}).catch((err: unknown) => err);
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: "nobody home: ü" });
    expect(reasonOf(error)).toBe(ErrorReason.STORE_UNAVAILABLE);
    expect((error as ConnectError).findDetails(RetryInfoSchema)[0]?.retryDelay).toMatchObject({
      seconds: 1n,
      nanos: 500_000_000,
    });
    const invalid = await client.listHostedConferences({ pageSize: 9 }).catch((err: unknown) => err);
    expect(invalid).toMatchObject({
      code: Code.InvalidArgument,
      rawMessage: "page_size must be from 1 to 2",
    });
  });

  it("hides what an unexpected error says", async () => {
    const { client } = await open({
      ...rest,
      keepalive() {
        throw new Error("secret");
      },
    });
    const error = await client.keepalive({}).catch((err: unknown) => err);
    expect(error).toMatchObject({ code: Code.Internal });
    expect(String(error)).not.toContain("secret");
  });

  it("aborts the handler when the caller gives up or its deadline passes", async () => {
    const aborted: string[] = [];
    const { client } = await open({
      ...rest,
      keepalive: (request, { signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => {
            aborted.push(request.dispatcherId);
            reject(signal.reason);
          });
        }),
    });
    const controller = new AbortController();
    const cancelled = client.keepalive({ dispatcherId: "cancel" }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    await expect(cancelled).rejects.toMatchObject({ code: Code.Canceled });
    await expect(client.keepalive({ dispatcherId: "late" }, { timeoutMs: 50 })).rejects.toMatchObject({
      code: Code.DeadlineExceeded,
    });
    await expect.poll(() => aborted.sort()).toEqual(["cancel", "late"]);
  });

  it("lets a call under way finish when it stops, and refuses new ones", async () => {
    let release = () => {};
    let entered = () => {};
    const inside = new Promise<void>((resolve) => {
      entered = resolve;
    });
    const { client, listener } = await open({
      ...rest,
      keepalive: () =>
        new Promise((resolve) => {
          release = () => resolve({ serverId: "done" });
          entered();
        }),
    });
    const call = client.keepalive({});
    await inside;
    const stopped = listener.stop(60_000);
    release();
    expect((await call).serverId).toBe("done");
    await stopped;
    await expect(client.keepalive({})).rejects.toMatchObject({ code: Code.Unavailable });
  });
});
