import { type DescFile, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { file_google_rpc_error_details } from "../../proto/gen/google/rpc/error_details_pb.js";
import { formatAddress, parseAddress } from "../address.ts";
import { addToGrpcServer, type MountedService } from "./grpc-adapter.ts";
import { statusError } from "./status.ts";

/** A gRPC port that serves, with health and reflection (v1 and v1alpha). */
export interface GrpcListener {
  /** host:port as bound; the port is the real one when 0 was asked for. */
  readonly address: string;
  /** What `grpc.health.v1` answers, for the whole server and for each service. */
  setServing(serving: boolean): void;
  /**
   * Stops in phases: not serving, no new calls, the open streams end with UNAVAILABLE (SHUTTING_DOWN), the calls under
   * way have `graceMs` to finish, the rest is cut off.
   */
  stop(graceMs: number): Promise<void>;
}

export interface GrpcListenerOptions {
  /** host:port to bind; port 0 takes a free one. */
  readonly address: string;
  readonly services: readonly MountedService[];
}

/** HTTP/2 pings to idle clients, so that a peer that vanished without a word is noticed. */
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;

/** How often clients may ping: those with several replicas to choose from do every 3 s. */
const MIN_CLIENT_PING_INTERVAL_MS = 1_000;

/** @throws {Error} when the address cannot be bound, saying which and why */
export async function listenGrpc({ address, services }: GrpcListenerOptions): Promise<GrpcListener> {
  const server = new grpc.Server({
    "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.min_ping_interval_without_data_ms": MIN_CLIENT_PING_INTERVAL_MS,
    // grpc-js answers without details above this; larger lists come in pages anyway.
    "grpc.max_receive_message_length": 4 * 1024 * 1024,
  });
  const shutdown = new AbortController();
  for (const service of services) addToGrpcServer(server, service, shutdown.signal);
  const health = new HealthImplementation({ "": "NOT_SERVING" });
  health.addToServer(server);
  new ReflectionService(packageDefinition(services)).addToServer(server);
  const { host, port } = parseAddress(address);
  const boundPort = await new Promise<number>((resolve, reject) => {
    server.bindAsync(formatAddress(host, port), grpc.ServerCredentials.createInsecure(), (err, bound) =>
      err
        ? reject(new Error(`cannot listen on ${address}: ${bindProblem(err)}`, { cause: err }))
        : resolve(bound),
    );
  });
  const setServing = (serving: boolean) => {
    const status = serving ? "SERVING" : "NOT_SERVING";
    health.setStatus("", status);
    for (const { desc } of services) health.setStatus(desc.typeName, status);
  };
  setServing(true);
  return {
    address: formatAddress(host, boundPort),
    setServing,
    async stop(graceMs) {
      setServing(false);
      const finished = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      shutdown.abort(
        statusError(Code.Unavailable, ErrorReason.SHUTTING_DOWN, "the server is shutting down; call again", {
          retryAfterMs: 1000,
        }),
      );
      const timer = setTimeout(() => server.forceShutdown(), graceMs);
      await finished;
      clearTimeout(timer);
    },
  };
}

/** grpc-js wraps the one thing that matters into a list of attempts. */
function bindProblem({ message }: Error): string {
  return message.includes("EADDRINUSE") ? "another process listens there; choose another port" : message;
}

/** What the reflection service reads of a package: the serialized descriptors of all its files. */
function packageDefinition(services: readonly MountedService[]) {
  const files = new Map<string, Buffer>();
  const add = (file: DescFile) => {
    if (files.has(file.name)) return;
    files.set(file.name, Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
    file.dependencies.forEach(add);
  };
  for (const { desc } of services) add(desc.file);
  // So that tools can read what errors carry.
  add(file_google_rpc_error_details);
  // Of a definition the service reads nothing but these bytes; the enum's form is the smallest that carries them.
  return {
    convoke: {
      format: "Protocol Buffer 3 EnumDescriptorProto" as const,
      type: {},
      fileDescriptorProtos: [...files.values()],
    },
  };
}
