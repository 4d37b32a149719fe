import { rootCertificates } from "node:tls";
import {
  AuthClient,
  Etcd3,
  type ICallable,
  type IOptions,
  KVClient,
  LeaseClient,
  MaintenanceClient,
  WatchClient,
} from "etcd3";
import type { Clock } from "../../../common/clock.ts";
import { CallEnded, Unreachable } from "./errors.ts";

/** The parts of etcd's API that are used, as generated; each call goes out once, as it is. */
export interface Stubs {
  readonly kv: KVClient;
  readonly lease: LeaseClient;
  readonly watch: WatchClient;
  readonly maintenance: MaintenanceClient;
  readonly auth: AuthClient;
}

export interface TlsOptions {
  /** PEM; the system's authorities when absent. */
  readonly ca?: Buffer;
  /** PEM of the client's certificate and its key, given together. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** How a call goes out. */
export interface CallContext {
  readonly token: string | undefined;
  /** Ends the call: with its reason when that is a `CallEnded`, otherwise as `aborted`. */
  readonly signal: AbortSignal;
  /** Told when a message goes out: from then on the call may take effect. */
  onSend?(): void;
}

/** The channels to one member, one for each of etcd's services, until it is left. */
export interface Endpoint {
  readonly address: string;
  stubs(context: CallContext): Stubs;
  /** Lets calls under way finish, and takes no new ones. */
  close(): void;
}

/**
 * Below the 5 s that etcd demands between pings, three pings would end the connection; the margin is for timers that
 * fire early on one side and late on the other.
 */
const KEEPALIVE_TIME_MS = 6_000;

/** A machine that answers no ping for so long is gone or frozen. */
const KEEPALIVE_TIMEOUT_MS = 3_000;

/** How long a connection may take to stand, TLS included. */
const CONNECT_TIMEOUT_MS = 2_000;

/** gRPC's connectivity states. */
const READY = 2;
const TRANSIENT_FAILURE = 3;

/** Asks nothing of the cluster, and needs no rights. */
const STATUS_METHOD = "/etcdserverpb.Maintenance/Status";

const CHANNEL_OPTIONS: NonNullable<IOptions["grpcOptions"]> = {
  "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  // etcd sets no limit to what it answers, and a listing may be longer than gRPC's 4 MiB.
  "grpc.max_receive_message_length": -1,
  "grpc.enable_retries": 0,
  // Otherwise a new channel would wait for the back-off of the connection that failed before.
  "grpc.use_local_subchannel_pool": 1,
};

type Service = Parameters<ICallable<unknown>["exec"]>[0];
type Wire = Parameters<Parameters<ICallable<unknown>["withConnection"]>[1]>[0];

/** Opens the way to the pool's own gRPC clients, so that its retries and its breaker see no call. */
class Channels extends Etcd3 {
  /** The client of a service, with metadata for one call. */
  open(service: Service): Promise<Wire> {
    return this.pool.withConnection(service, (wire) => wire);
  }
}

type UnaryMethod = (
  this: unknown,
  params: unknown,
  metadata: unknown,
  options: object,
  callback: (err: Error | null, response: never) => void,
) => { cancel(): void };

export function openEndpoint(address: string, tls: TlsOptions | undefined, clock: Clock): Endpoint {
  const channels = new Channels({
    hosts: tls ? `https://${address}` : address,
    grpcOptions: CHANNEL_OPTIONS,
    ...(tls ? { credentials: credentialsOf(tls) } : {}),
  });

  async function connect(service: Service, { token, signal }: CallContext): Promise<Wire> {
    throwIfEnded(signal);
    const wire = await channels.open(service);
    await waitUntilReady(wire, signal, clock);
    wire.metadata.set("hasleader", "true");
    if (token !== undefined) wire.metadata.set("token", token);
    return wire;
  }

  function callableFor(context: CallContext): ICallable<unknown> {
    return {
      async exec<T>(service: Service, method: string, params: unknown): Promise<T> {
        const { client, metadata } = await connect(service, context);
        const start: UnaryMethod = Reflect.get(client, method);
        const { promise, resolve, reject } = Promise.withResolvers<T>();
        throwIfEnded(context.signal);
        const call = start.call(client, params, metadata, {}, (err, response) =>
          err ? reject(err) : resolve(response),
        );
        context.onSend?.();
        const end = () => {
          reject(reasonOf(context.signal));
          call.cancel();
        };
        context.signal.addEventListener("abort", end, { once: true });
        return await promise.finally(() => context.signal.removeEventListener("abort", end));
      },
      async withConnection(service, fn) {
        const { client, metadata } = await connect(service, context);
        return await fn({ resource: undefined, client, metadata });
      },
      // The connection decides what a failure means, not the pool.
      markFailed() {},
      callOptionsFactory: undefined,
    };
  }

  return {
    address,
    stubs(context) {
      const callable = callableFor(context);
      return {
        kv: new KVClient(callable),
        lease: new LeaseClient(callable),
        watch: new WatchClient(callable),
        maintenance: new MaintenanceClient(callable),
        auth: new AuthClient(callable),
      };
    },
    close: () => channels.close(),
  };
}

function credentialsOf({ ca, cert, key }: TlsOptions): NonNullable<IOptions["credentials"]> {
  return {
    rootCertificate: ca ?? Buffer.from(rootCertificates.join("\n")),
    ...(cert ? { certChain: cert } : {}),
    ...(key ? { privateKey: key } : {}),
  };
}

function throwIfEnded(signal: AbortSignal) {
  if (signal.aborted) throw reasonOf(signal);
}

function reasonOf(signal: AbortSignal): CallEnded {
  const { reason } = signal;
  return reason instanceof CallEnded ? reason : new CallEnded("aborted", "aborted", { cause: reason });
}

/** Nothing is sent before the connection stands, so that what fails here has certainly not been done. */
async function waitUntilReady(wire: Wire, signal: AbortSignal, clock: Clock) {
  const channel = wire.client.getChannel();
  const deadlineMs = clock.monotonicMs() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === READY) return;
    const leftMs = deadlineMs - clock.monotonicMs();
    if (state === TRANSIENT_FAILURE) throw new Unreachable(await whyNot(wire));
    if (leftMs <= 0) throw new Unreachable(`no connection within ${CONNECT_TIMEOUT_MS} ms`);
    await stateChange(channel, state, leftMs, signal);
  }
}

type Channel = ReturnType<Wire["client"]["getChannel"]>;

function stateChange(channel: Channel, state: number, waitMs: number, signal: AbortSignal) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const end = () => reject(reasonOf(signal));
  signal.addEventListener("abort", end, { once: true });
  channel.watchConnectivityState(state, Date.now() + waitMs, () => resolve());
  return promise.finally(() => signal.removeEventListener("abort", end));
}

/** A channel does not tell why it has no connection; a call does, and fails at once. */
function whyNot({ client, metadata }: Wire): Promise<string> {
  const nothing = () => Buffer.alloc(0);
  return new Promise((resolve) => {
    const deadline = Date.now() + CONNECT_TIMEOUT_MS;
    client.makeUnaryRequest(STATUS_METHOD, nothing, nothing, null, metadata, { deadline }, (err) =>
      resolve(err?.details ?? "the connection was lost"),
    );
  });
}
