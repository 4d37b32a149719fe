import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { expect, test } from "vitest";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { createFakeClock } from "../../test/support/fake-clock.ts";
import { createRegistration, REGISTER_INTERVAL_MS, REGISTER_MIN_INTERVAL_MS } from "./registration.ts";

const facts = {
  serverId: "s1",
  agentAddress: "127.0.0.1:7500",
  capacity: 50,
  region: "eu",
  labels: { zone: "a" },
  driver: "loopback",
  instanceId: "one",
};

function setUp(answer: (attempt: number) => bigint) {
  const clock = createFakeClock();
  const abort = new AbortController();
  const requests: unknown[] = [];
  const servers = createClient(
    ServerService,
    createRouterTransport(({ rpc }) => {
      rpc(ServerService.method.registerServer, ({ server }) => {
        requests.push(server);
        return { server: { incarnation: answer(requests.length) } };
      });
    }),
  );
  const registration = createRegistration({
    servers,
    facts: () => facts,
    logger: pino({ level: "silent" }),
    clock,
    random: () => 0.5,
  });
  const finished = registration.run(abort.signal);
  return { clock, abort, requests, registration, finished };
}

test("registers at once, and again and again", async () => {
  const { clock, abort, requests, registration, finished } = setUp(() => 7n);
  expect(registration.incarnation).toBe(0n);
  await clock.armed();
  expect(requests).toEqual([expect.objectContaining(facts)]);
  expect(registration.incarnation).toBe(7n);
  await clock.advance(REGISTER_INTERVAL_MS - 1);
  expect(requests).toHaveLength(1);
  await clock.advance(1);
  expect(requests).toHaveLength(2);
  abort.abort();
  await finished;
  expect(clock.pending).toBe(0);
});

test("tries again while the control plane is away, ever more slowly, and learns a new incarnation", async () => {
  const { clock, abort, requests, registration, finished } = setUp((attempt) => {
    if (attempt > 1 && attempt < 6) throw new ConnectError("away", Code.Unavailable);
    return attempt === 1 ? 1n : 2n;
  });
  await clock.armed();
  await clock.advance(REGISTER_INTERVAL_MS);
  expect(requests).toHaveLength(2);
  const waits: number[] = [];
  let lastMs = clock.monotonicMs();
  for (let attempt = 3; attempt <= 6; attempt++) {
    while (requests.length < attempt) await clock.advance(50);
    waits.push(clock.monotonicMs() - lastMs);
    lastMs = clock.monotonicMs();
  }
  expect(waits).toEqual(waits.toSorted((a, b) => a - b));
  expect(registration.incarnation).toBe(2n);
  abort.abort();
  await finished;
});

test("renews soon when asked, but never in a rush", async () => {
  const { clock, abort, requests, registration, finished } = setUp(() => 1n);
  await clock.armed();
  registration.renew();
  registration.renew();
  await clock.advance(REGISTER_MIN_INTERVAL_MS - 1);
  expect(requests).toHaveLength(1);
  await clock.advance(1);
  expect(requests).toHaveLength(2);
  await clock.advance(REGISTER_INTERVAL_MS - 1);
  expect(requests).toHaveLength(2);
  abort.abort();
  await finished;
});

test("gives up on facts that the control plane has never found valid", async () => {
  const { finished } = setUp(() => {
    throw new ConnectError("labels must have at most 64 entries", Code.InvalidArgument);
  });
  await expect(finished).rejects.toMatchObject({ code: Code.InvalidArgument });
});

test("goes on with facts that were valid before", async () => {
  const { clock, abort, requests, finished } = setUp((attempt) => {
    if (attempt === 2) throw new ConnectError("no longer", Code.InvalidArgument);
    return 1n;
  });
  await clock.armed();
  await clock.advance(REGISTER_INTERVAL_MS + 1_000);
  expect(requests.length).toBeGreaterThan(2);
  abort.abort();
  await finished;
});
