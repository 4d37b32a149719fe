import * as grpc from "@grpc/grpc-js";

/** What a server says of itself; `silent` when it says nothing. */
export type Health = "serving" | "not_serving" | "silent";

/**
 * Connects if there is no connection, and resolves with whether one stands: false as soon as connecting fails, after
 * `timeoutMs`, or when the signal aborts. What is not connected has certainly been sent nothing.
 */
export async function isConnected(
  client: grpc.Client,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const channel = client.getChannel();
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === grpc.connectivityState.READY) return true;
    if (state === grpc.connectivityState.TRANSIENT_FAILURE || state === grpc.connectivityState.SHUTDOWN) {
      return false;
    }
    if (signal?.aborted || Date.now() >= deadline) return false;
    await changed(channel, state, deadline, signal);
  }
}

/** Calls back once, as soon as no connection stands: at the next turn when that is so already. Keeps nothing alive. */
export function onceDisconnected(client: grpc.Client, listener: () => void): void {
  const channel = client.getChannel();
  const { READY } = grpc.connectivityState;
  if (channel.getConnectivityState(false) !== READY) queueMicrotask(listener);
  else channel.watchConnectivityState(READY, Number.POSITIVE_INFINITY, () => listener());
}

function changed(
  channel: ReturnType<grpc.Client["getChannel"]>,
  state: grpc.connectivityState,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      signal?.removeEventListener("abort", done);
      resolve();
    };
    signal?.addEventListener("abort", done, { once: true });
    channel.watchConnectivityState(state, deadline, done);
  });
}

const HEALTH_CHECK = "/grpc.health.v1.Health/Check";

/** HealthCheckResponse{status: SERVING} on the wire: field 1, a varint, 1. */
const SERVING = Buffer.from([0x08, 0x01]);

/** Asks `grpc.health.v1`. A server that answers and has no such service is taken at its word that it answers. */
export function askHealth(client: grpc.Client, timeoutMs: number): Promise<Health> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      HEALTH_CHECK,
      () => Buffer.alloc(0),
      (bytes) => bytes,
      undefined,
      new grpc.Metadata(),
      { deadline: Date.now() + timeoutMs },
      (err, answer) => {
        if (err) return resolve(err.code === grpc.status.UNIMPLEMENTED ? "serving" : "silent");
        resolve(answer && SERVING.equals(answer) ? "serving" : "not_serving");
      },
    );
  });
}
