import { create, type DescMethod, type DescService, type Message } from "@bufbuild/protobuf";
import {
  type Client,
  Code,
  ConnectError,
  type HandlerContext,
  type MethodImplSpec,
} from "@connectrpc/connect";
import type { MountedService } from "../../common/rpc/grpc-adapter.ts";
import { REVISION_HEADER } from "../../common/rpc/revision-header.ts";
import { abortStatus, toStatus } from "../../common/rpc/status.ts";
import type { Network } from "./network.ts";
import type { SimulatedProcess } from "./simulated-process.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** The calls of a simulated world: the real handlers, behind a simulated network. */
export interface Rpc {
  /** Lets a process answer at an address, in place of any that did before. */
  listen(address: string, process: SimulatedProcess, services: readonly MountedService[]): void;
  /** Whether anything listens there, and who. */
  listener(address: string): SimulatedProcess | undefined;
  client<S extends DescService>(service: S, options: ClientOptions): Client<S>;
  /** Connects, as TCP does: machines answer even for processes that are paused. */
  knock(
    process: SimulatedProcess,
    address: string,
    timeoutMs: number,
  ): Promise<"open" | "refused" | "silent">;
}

export interface ClientOptions {
  readonly process: SimulatedProcess;
  /** Where the next call goes. */
  address(): string;
  /** Called when a call failed for want of an answer. */
  onUnanswered?(address: string): void;
  /** The newest revision seen, sent along and kept up. */
  readonly seen?: { revision: bigint };
}

type Outcome = { readonly message: Message } | { readonly error: ConnectError } | { readonly end: true };

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

interface Listener {
  readonly process: SimulatedProcess;
  readonly methods: ReadonlyMap<string, MethodImplSpec>;
}

/** A call on its way; both ends know it. */
interface OpenCall {
  readonly client: SimulatedProcess;
  readonly server: SimulatedProcess;
  /** Ends it at the client: the connection is gone. */
  broke(message: string): void;
  /** Tells the handler that nobody waits any more. */
  abandon(): void;
}

/** The deadline of calls that bring none, as with the real clients. */
const DEFAULT_TIMEOUT_MS = 10_000;

/** Made once: an exception with its stack costs more than a call. */
const HUNG_UP = new ConnectError("the caller hung up", Code.Canceled);

/** A connection's handshake. */
const KNOCK_MS = 2;

/** How long a silent connection is taken for one that lives: the keepalive of the real clients, both its times. */
const KEEPALIVE_MS = 5_000;

export function createRpc(time: VirtualTime, network: Network): Rpc {
  const listeners = new Map<string, Listener>();
  const open = new Set<OpenCall>();
  /** Of calls that are being served: what is composed of their signals is kept by Node.js until they abort. */
  const serving = new Set<AbortController>();
  time.onOver(() => {
    for (const controller of serving) controller.abort(HUNG_UP);
  });

  function breakBetween(a: string, b: string, message: string) {
    for (const call of [...open]) {
      const [from, to] = [call.client.name, call.server.name];
      if ((from === a && to === b) || (from === b && to === a)) call.broke(message);
    }
  }
  network.onCut((a, b) => {
    time.at(time.nowMs + KEEPALIVE_MS, () => {
      if (network.isCut(a, b)) breakBetween(a, b, "the connection fell silent");
    });
  });
  network.onReset((a, b) => breakBetween(a, b, "connection reset"));

  const noticed = new WeakSet<SimulatedProcess>();

  /** A machine closes the connections of a process that dies, and the other ends see it. */
  function noticeDeath(process: SimulatedProcess) {
    if (noticed.has(process)) return;
    noticed.add(process);
    process.onKilled(() => {
      for (const call of [...open]) {
        const { client, server } = call;
        if (client === process) {
          open.delete(call);
          call.abandon();
        } else if (server === process) {
          time.at(time.nowMs + 1, () => {
            if (!network.isCut(client.name, server.name)) call.broke("connection reset");
          });
        }
      }
    });
  }

  function contextOf(method: DescMethod, signal: AbortSignal, seen: { revision: bigint } | undefined) {
    const known = seen?.revision ?? 0n;
    let answered = 0n;
    const context = {
      service: method.parent,
      method,
      protocolName: "simulated",
      signal,
      requestHeader: {
        get: (name: string) => (name === REVISION_HEADER && known > 0n ? String(known) : null),
      },
      responseTrailer: {
        set(name: string, value: string) {
          if (name === REVISION_HEADER) answered = BigInt(value);
        },
      },
    };
    // Handlers look at nothing else.
    return { context: context as unknown as HandlerContext, answeredRevision: () => answered };
  }

  /** Opens a call. `settle` is called in the client's process, with what came or with nothing at the end of a stream. */
  function begin(
    method: DescMethod,
    request: Message,
    { process: client, address, onUnanswered, seen }: ClientOptions,
    { signal, timeoutMs }: CallOptions,
    settle: (outcome: Outcome) => void,
  ): () => void {
    const to = address();
    const listener = listeners.get(to);
    const spec = listener?.methods.get(method.name);
    let over = false;
    const served = new AbortController();
    serving.add(served);
    const server = listener?.process;
    const call: OpenCall | undefined = server && {
      client,
      server,
      broke: (message) => client.enter(() => fail(new ConnectError(message, Code.Unavailable), true)),
      abandon: hangUp,
    };
    const deadline =
      timeoutMs === undefined
        ? undefined
        : client.clock.setTimer(
            () => fail(new ConnectError(`no answer within ${timeoutMs} ms`, Code.DeadlineExceeded), true),
            timeoutMs,
          );
    const onAbort = () => fail(ConnectError.from(signal?.reason, Code.Canceled), false);

    function finish() {
      over = true;
      if (call) open.delete(call);
      deadline?.clear();
      signal?.removeEventListener("abort", onAbort);
    }

    /** The server learns of it as soon as the network lets it. */
    function hangUp() {
      if (server && !served.signal.aborted) network.send(client.name, server, () => served.abort(HUNG_UP));
    }

    function fail(error: ConnectError, unanswered: boolean) {
      if (over) return;
      finish();
      hangUp();
      if (unanswered) onUnanswered?.(to);
      settle({ error });
    }

    const refused = () =>
      client.enter(() => fail(new ConnectError(`${to} refuses the connection`, Code.Unavailable), true));

    if (signal?.aborted) {
      finish();
      client.enter(() => settle({ error: ConnectError.from(signal.reason, Code.Canceled) }));
      return () => {};
    }
    signal?.addEventListener("abort", onAbort, { once: true });
    if (!server || !spec || !call) {
      time.at(time.nowMs + 1, refused);
      return () => {};
    }
    open.add(call);
    noticeDeath(server);
    noticeDeath(client);
    const { context, answeredRevision } = contextOf(method, served.signal, seen);
    const from = server;
    const isStream = spec.kind === "server_streaming";

    function reply(outcome: Outcome) {
      const revision = answeredRevision();
      network.send(from.name, client, () => {
        if (over) return;
        if (seen && revision > seen.revision) seen.revision = revision;
        if (!("message" in outcome) || !isStream) finish();
        settle(outcome);
      });
    }

    async function serveUnary(impl: (request: never, context: HandlerContext) => unknown) {
      try {
        reply({ message: create(method.output, (await impl(request as never, context)) as Message) });
      } catch (err) {
        reply({ error: toStatus(err) });
      } finally {
        serving.delete(served);
      }
    }

    async function serveStream(impl: (request: never, context: HandlerContext) => AsyncIterable<unknown>) {
      try {
        for await (const message of impl(request as never, context)) {
          if (served.signal.aborted) return;
          reply({ message: create(method.output, message as Message) });
        }
        if (!served.signal.aborted) reply({ end: true });
      } catch (err) {
        reply({ error: served.signal.aborted ? abortStatus(served.signal) : toStatus(err) });
      } finally {
        serving.delete(served);
      }
    }

    network.send(
      client.name,
      server,
      () => {
        if (served.signal.aborted) return;
        if (spec.kind === "unary") void serveUnary(spec.impl as never);
        else if (spec.kind === "server_streaming") void serveStream(spec.impl as never);
      },
      refused,
    );
    return () => {
      if (over) return;
      finish();
      hangUp();
    };
  }

  function unary(method: DescMethod, options: ClientOptions) {
    return (init: object, call: CallOptions = {}) =>
      new Promise<Message>((resolve, reject) => {
        const request = create(method.input, init as never) as Message;
        begin(method, request, options, { timeoutMs: DEFAULT_TIMEOUT_MS, ...call }, (outcome) => {
          if ("message" in outcome) resolve(outcome.message);
          else reject("error" in outcome ? outcome.error : new ConnectError("ended", Code.Internal));
        });
      });
  }

  function stream(method: DescMethod, options: ClientOptions) {
    return async function* (init: object, call: CallOptions = {}): AsyncGenerator<Message> {
      const request = create(method.input, init as never) as Message;
      const queue: Message[] = [];
      let ended: { readonly error?: ConnectError } | undefined;
      let wake = () => {};
      const hangUp = begin(method, request, options, call, (outcome) => {
        if ("message" in outcome) queue.push(outcome.message);
        else ended = "error" in outcome ? { error: outcome.error } : {};
        wake();
      });
      try {
        for (;;) {
          for (let message = queue.shift(); message; message = queue.shift()) yield message;
          if (ended?.error) throw ended.error;
          if (ended) return;
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      } finally {
        hangUp();
      }
    };
  }

  return {
    listen(address, process, services) {
      const methods = new Map<string, MethodImplSpec>();
      for (const service of services) {
        for (const spec of service.methods) methods.set(spec.method.name, spec);
      }
      listeners.set(address, { process, methods });
    },
    knock(process, address, timeoutMs) {
      return new Promise((resolve) => {
        const timer = process.clock.setTimer(() => resolve("silent"), timeoutMs);
        const target = listeners.get(address)?.process;
        const settle = (state: "open" | "refused") => {
          timer.clear();
          process.enter(() => resolve(state));
        };
        if (target && network.isCut(process.name, target.name)) return;
        // There and back.
        time.at(time.nowMs + KNOCK_MS, () =>
          settle(!target || target.state === "killed" ? "refused" : "open"),
        );
      });
    },
    listener: (address) => listeners.get(address)?.process,
    client<S extends DescService>(service: S, options: ClientOptions) {
      const methods: Record<string, unknown> = {};
      for (const method of service.methods) {
        const streams = method.methodKind === "server_streaming";
        methods[method.localName] = streams ? stream(method, options) : unary(method, options);
      }
      return methods as Client<S>;
    },
  };
}
