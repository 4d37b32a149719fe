import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createConvokeClient } from "../client/transport/client.ts";
import { answerOf } from "../test/support/failures.ts";
import { defaultStore, runServe } from "./serve.ts";

const logger = pino({ level: "silent" });

describe("serving", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "convoke-serve-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  /** Serves until told to stop. */
  async function serve() {
    const controller = new AbortController();
    const listening = Promise.withResolvers<{ grpc: string; http: string }>();
    const options = { listen: "127.0.0.1:0", http: "127.0.0.1:0", store: `embedded:${directory}`, logger };
    const over = runServe({ ...options, onListening: listening.resolve }, controller.signal);
    over.catch(listening.reject);
    const { grpc, http } = await listening.promise;
    return { grpc, http, controller, over };
  }

  it("answers on both ports until it is stopped, and frees everything", async () => {
    for (let life = 0; life < 2; life++) {
      const { grpc, http, controller, over } = await serve();
      using client = createConvokeClient({ endpoint: grpc });
      const { dispatchers } = await client.dispatchers.listDispatchers({});
      expect(dispatchers).toEqual([]);
      for (const path of ["healthz", "readyz"])
        expect((await fetch(`http://${http}/${path}`)).status, path).toBe(200);
      controller.abort();
      await over;
      expect((await answerOf(client.dispatchers.listDispatchers({}))).code).not.toBe(0);
    }
  });

  it("fails when a port is taken, says which, and leaves the store to the next", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const bound = taken.address();
    const address = `127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
    const { signal } = new AbortController();
    const options = { listen: "127.0.0.1:0", http: "127.0.0.1:0", store: `embedded:${directory}`, logger };
    try {
      for (const port of ["listen", "http"])
        await expect(runServe({ ...options, [port]: address }, signal)).rejects.toThrow(address);
    } finally {
      await new Promise((resolve) => taken.close(resolve));
    }
    const { controller, over } = await serve();
    await expect(runServe(options, signal)).rejects.toMatchObject({ code: "unavailable" });
    controller.abort();
    await over;
  });

  it("ends without an error when it is stopped before it has begun", async () => {
    const options = { listen: "127.0.0.1:0", http: "127.0.0.1:0", store: `embedded:${directory}`, logger };
    let listened = false;
    const onListening = () => {
      listened = true;
    };
    await runServe({ ...options, onListening }, AbortSignal.abort());
    expect(listened).toBe(false);
  });

  it("refuses a store that it does not know", async () => {
    const { signal } = new AbortController();
    for (const store of ["redis:x", "embedded:", "/var/lib/convoke"]) {
      const options = { listen: "127.0.0.1:0", http: "127.0.0.1:0", store, logger };
      await expect(runServe(options, signal), store).rejects.toThrow(/write embedded:DIR/);
    }
  });
});

describe("the default store", () => {
  it("lies in the user's state directory", () => {
    expect(defaultStore({ XDG_STATE_HOME: "/state" })).toBe("embedded:/state/convoke");
    expect(defaultStore({ XDG_STATE_HOME: "" })).toMatch(/^embedded:.*\/\.local\/state\/convoke$/);
  });
});
