/**
 * A child of `probing.bench.ts`: so many AgentService endpoints in one process, each a listening port of its own, that
 * answer Keepalive as healthy agents do. Tells its parent the ports.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  AgentService,
  KeepaliveRequestSchema,
  type KeepaliveResponse,
  KeepaliveResponseSchema,
} from "../../proto/gen/convoke/v1/agent_service_pb.js";

const COUNT = Number(process.argv[2]);

const { keepalive } = AgentService.method;
const server = new grpc.Server();
server.addService(
  {
    keepalive: {
      path: `/${AgentService.typeName}/${keepalive.name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (message) => message,
      requestDeserialize: (bytes: Buffer) => fromBinary(KeepaliveRequestSchema, bytes),
      responseSerialize: (message: KeepaliveResponse) =>
        Buffer.from(toBinary(KeepaliveResponseSchema, message)),
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  },
  {
    keepalive: (
      call: grpc.ServerUnaryCall<unknown, KeepaliveResponse>,
      done: grpc.sendUnaryData<KeepaliveResponse>,
    ) => {
      // The authority that the caller dialled names the endpoint.
      const serverId = `s${call.getHost().split(":")[1]}`;
      done(null, create(KeepaliveResponseSchema, { serverId, incarnation: 1n }));
    },
  },
);

const ports: number[] = [];
for (let index = 0; index < COUNT; index++) {
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (err, port) =>
      err ? reject(err) : resolve(port),
    );
  });
  ports.push(bound);
}
process.send?.(ports);
process.once("disconnect", () => process.exit());
