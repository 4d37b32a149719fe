import { Readable, Writable } from "node:stream";
import { createClient, type Transport } from "@connectrpc/connect";
import { type CliContext, writeTo } from "../../client/cli/context.ts";
import type { ConvokeClient } from "../../client/transport/client.ts";
import type { Clock } from "../../common/clock.ts";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createFakeClock } from "./fake-clock.ts";

/** A context in memory, and what a command did with it. */
export interface TestCliContext {
  readonly context: CliContext;
  /** Everything written to stdout so far. */
  stdout(): string;
  /** Everything written to stderr so far. */
  stderr(): string;
  /** Resolves once `text` has been written to that stream. */
  written(stream: "stdout" | "stderr", text: string): Promise<void>;
  /** Aborts the context's signal. */
  readonly abort: AbortController;
  /** Aborts what `deferTermination` gave, as the first SIGTERM does. */
  readonly terminate: AbortController;
}

export interface TestCliContextOptions {
  /** What `connect` reaches, e.g. `createRouterTransport(…)`; without it `connect` throws. */
  readonly transport?: Transport;
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default: a fake clock at 2030-01-01T00:00:00Z. */
  readonly clock?: Clock;
}

export function createTestCliContext(options: TestCliContextOptions = {}): TestCliContext {
  const { transport, stdin = "", env = {}, clock = createFakeClock() } = options;
  const abort = new AbortController();
  const terminate = new AbortController();
  const stdout = createSink();
  const stderr = createSink();
  return {
    context: {
      stdin: Readable.from(stdin === "" ? [] : [Buffer.from(stdin)]),
      stdout: stdout.stream,
      stderr: stderr.stream,
      env,
      clock,
      program: ["convoke"],
      signal: abort.signal,
      deferTermination: () => terminate.signal,
      isTty: { stdin: false, stdout: false, stderr: false },
      async connect() {
        if (!transport) throw new Error("this test gave no transport");
        return createTestClient(transport);
      },
      print: (text) => writeTo(stdout.stream, `${text}\n`),
      warn: (text) => void stderr.stream.write(`warning: ${text}\n`),
    },
    stdout: stdout.text,
    stderr: stderr.text,
    written: (stream, text) => (stream === "stdout" ? stdout : stderr).written(text),
    abort,
    terminate,
  };
}

/** The typed clients over any transport. */
export function createTestClient(transport: Transport): ConvokeClient {
  return {
    dispatchers: createClient(DispatcherService, transport),
    conferences: createClient(ConferenceService, transport),
    servers: createClient(ServerService, transport),
    close() {},
    [Symbol.dispose]() {},
  };
}

function createSink() {
  let content = "";
  let waiters: { text: string; resolve: () => void }[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(chunk, _encoding, callback) {
      content += String(chunk);
      waiters = waiters.filter(({ text, resolve }) => {
        if (!content.includes(text)) return true;
        resolve();
        return false;
      });
      callback();
    },
  });
  return {
    stream,
    text: () => content,
    written: (text: string) =>
      content.includes(text)
        ? Promise.resolve()
        : new Promise<void>((resolve) => waiters.push({ text, resolve })),
  };
}
