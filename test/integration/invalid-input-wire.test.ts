import { once } from "node:events";
import { connect } from "node:net";
import { Code } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type GrpcListener, listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { type HttpListener, listenHttp } from "../../server/rpc/http-listener.ts";
import { type ControlPlane, openControlPlane } from "../support/control-plane.ts";

const REGISTER = "/convoke.v1.DispatcherService/RegisterDispatcher";

describe("input that is no request", () => {
  let plane: ControlPlane;
  let http: HttpListener;
  let grpcPort: GrpcListener;
  let client: grpc.Client;
  beforeAll(async () => {
    plane = await openControlPlane();
    const { services } = plane.replica;
    http = await listenHttp({ address: "127.0.0.1:0", services, isReady: () => true });
    grpcPort = await listenGrpc({ address: "127.0.0.1:0", services });
    client = new grpc.Client(grpcPort.address, grpc.credentials.createInsecure());
  });
  afterAll(async () => {
    client.close();
    await Promise.all([grpcPort.stop(0), http.stop(0)]);
    expect(plane.complaints).toEqual([]);
    expect(await plane.revision()).toBe(1n);
    await plane[Symbol.asyncDispose]();
  });

  const raw = (path: string, bytes: Uint8Array) =>
    new Promise<{ code: number; details: string }>((resolve) => {
      const identity = (value: Uint8Array) => Buffer.from(value);
      client.makeUnaryRequest(path, identity, identity, bytes, (err) => {
        resolve(err ? { code: err.code, details: err.details } : { code: 0, details: "" });
      });
    });
  const post = async (path: string, body: string | Uint8Array<ArrayBuffer>, type = "application/json") => {
    const response = await fetch(`http://${http.address}${path}`, {
      method: "POST",
      headers: { "content-type": type },
      body,
    });
    return { status: response.status, body: await response.text() };
  };

  it("over gRPC: bytes that are no message", async () => {
    for (const bytes of [
      Buffer.from([0xff, 0xff, 0xff]),
      Buffer.from([0x0a, 0x05, 0x61]),
      Buffer.alloc(64, 7),
    ]) {
      const { code, details } = await raw(REGISTER, bytes);
      expect({ code, details }).toEqual({
        code: Code.InvalidArgument,
        details:
          "the request is not a convoke.v1.RegisterDispatcherRequest in the binary encoding of protobuf",
      });
    }
    expect(await raw("/convoke.v1.ConferenceService/WatchDispatches", Buffer.from([0xff]))).toMatchObject({
      code: Code.InvalidArgument,
    });
  });

  it("over gRPC: text that is not UTF-8", async () => {
    expect(await raw(REGISTER, Buffer.from([0x0a, 0x02, 0xc3, 0x28]))).toMatchObject({
      code: Code.InvalidArgument,
    });
  });

  it("over gRPC: more than 4 MiB, and methods and services that do not exist", async () => {
    expect(await raw(REGISTER, Buffer.alloc(4 * 1024 * 1024 + 1))).toMatchObject({
      code: Code.ResourceExhausted,
    });
    expect(await raw("/convoke.v1.DispatcherService/Nothing", Buffer.alloc(0))).toMatchObject({
      code: Code.Unimplemented,
    });
    expect(await raw("/convoke.v1.NoService/Nothing", Buffer.alloc(0))).toMatchObject({
      code: Code.Unimplemented,
    });
  });

  it("over gRPC: errors about megabytes of input still arrive", async () => {
    const long = "x".repeat(1_000_000);
    const label = Buffer.concat([Buffer.from([0x0a]), varint(long.length), Buffer.from(long)]);
    const bytes = Buffer.concat([Buffer.from([0x22]), varint(label.length), label]);
    const { code, details } = await raw(REGISTER, bytes);
    expect(code).toBe(Code.InvalidArgument);
    expect(details).toMatch(/^dispatcher_id is required/);
  });

  it("over HTTP: JSON that is malformed, of another type, or too large", async () => {
    for (const body of ["{", "[]", '"text"', '{"dispatcherId":7}', '{"ttl":"soon"}', "null", "\u0000"]) {
      const answer = await post(REGISTER, body);
      expect(answer, body).toMatchObject({ status: 400 });
      expect(JSON.parse(answer.body)).toMatchObject({ code: "invalid_argument" });
    }
    const large = await post(REGISTER, JSON.stringify({ dispatcherId: "x".repeat(4 * 1024 * 1024) }));
    expect(large.status).toBe(429);
    expect(JSON.parse(large.body)).toMatchObject({ code: "resource_exhausted" });
  });

  it("over HTTP: names every field that is wrong", async () => {
    const { status, body } = await post(REGISTER, '{"dispatcherId":"D","weight":2000}');
    expect(status).toBe(400);
    const answer = JSON.parse(body) as { code: string; message: string };
    expect(answer.code).toBe("invalid_argument");
    expect(answer.message).toMatch(/^dispatcher_id must be .*; weight must be from 1 to 1000$/);
  });

  it("over HTTP: other paths, methods and content types", async () => {
    expect((await post("/convoke.v1.DispatcherService/Nothing", "{}")).status).toBe(404);
    expect((await post("/../../etc/passwd", "{}")).status).toBe(404);
    expect((await post(REGISTER, "{}", "text/plain")).status).toBe(415);
    expect((await fetch(`http://${http.address}${REGISTER}`)).status).toBe(405);
    expect((await fetch(`http://${http.address}/healthz?x=1`)).status).toBe(200);
    const binary = await post(REGISTER, Buffer.from([0xff, 0xff]), "application/proto");
    // Connect's own answer to bytes that are no message is INTERNAL.
    expect(binary.status).toBeGreaterThanOrEqual(400);
  });

  it("on either port: another protocol altogether; the port serves on", async () => {
    for (const address of [http.address, grpcPort.address]) {
      const [host = "", port = ""] = address.split(":");
      const socket = connect(Number(port), host);
      socket.on("error", () => {});
      socket.end(Buffer.alloc(4_096, 0x16));
      socket.resume();
      await once(socket, "close");
    }
    expect((await fetch(`http://${http.address}/readyz`)).status).toBe(200);
    expect(await raw(REGISTER, Buffer.alloc(0))).toMatchObject({ code: Code.InvalidArgument });
  });
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 0x7f) | 0x80);
  }
}
