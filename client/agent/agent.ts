import { formatAddress, parseAddress } from "../../common/address.ts";
import { type Clock, systemClock } from "../../common/clock.ts";
import { isolationMs, readDetection } from "../../common/detection.ts";
import type { Logger } from "../../common/logging.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { instrumented } from "../../common/rpc/instrument.ts";
import { runTasks } from "../../common/run-tasks.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { createConvokeClient } from "../transport/client.ts";
import { type AgentOptions, type CompiledAgentOptions, compileAgentOptions } from "./agent-options.ts";
import { createAgentService } from "./agent-service.ts";
import { type DrainOutcome, forgetDrained, runDrain, untilDrained } from "./drain.ts";
import { createDriver } from "./drivers/create-driver.ts";
import type { Driver } from "./drivers/driver.ts";
import { ReplacedError } from "./drivers/room-server-driver.ts";
import { createHostedConferences } from "./hosted.ts";
import { createIsolation, type Isolation } from "./isolation.ts";
import { runReconcile } from "./reconcile/reconcile.ts";
import { createRegistration, type Registration, type RegistrationAnswer } from "./registration.ts";

export interface AgentDependencies {
  readonly logger: Logger;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Called once the agent answers calls, with the address it gives to the control plane. */
  readonly onServing?: (agentAddress: string) => void;
  /** When it aborts, the agent drains its server, goes on serving meanwhile, and stops when that is done. */
  readonly drain?: AbortSignal;
}

/** How long calls under way have to finish when the agent stops. */
const STOP_GRACE_MS = 5_000;

/** The conference server has ended, or begun another life, and its agent must begin anew as well. */
class LifeOverError extends Error {
  override readonly name = "LifeOverError";
}

/**
 * Runs an agent until the signal aborts, or until it is drained, then stops it in phases: no new calls, those under way
 * finish, the registration and the watch end, the driver lets go of the conference server. When a room server begins
 * another life, so does its agent.
 * @throws {TypeError} when an option is wrong, before anything is started
 * @throws {Error} when an address cannot be bound, when the control plane finds the facts of the server invalid, or when
 *   the conference server's life is over
 */
export async function runAgent(
  agentOptions: AgentOptions,
  dependencies: AgentDependencies,
  signal: AbortSignal,
): Promise<void> {
  const options = compileAgentOptions(agentOptions);
  for (;;) {
    try {
      return await runLife(options, dependencies, signal);
    } catch (err) {
      const beginsAnew = err instanceof LifeOverError && options.roomServer !== undefined;
      if (!beginsAnew || signal.aborted || err.cause instanceof ReplacedError) throw err;
      dependencies.logger.warn({ err }, "the conference server's life is over; beginning anew");
    }
  }
}

/** Runs an agent for one life of its conference server. */
async function runLife(
  options: CompiledAgentOptions,
  dependencies: AgentDependencies,
  signal: AbortSignal,
): Promise<void> {
  const { logger, clock = systemClock, onServing, drain } = dependencies;
  await using stack = new AsyncDisposableStack();
  const client = stack.use(createConvokeClient({ endpoint: options.endpoint }));
  // The driver asks what is built on top of it.
  let isolation: Isolation | undefined;
  let wasOpen = false;
  const driver = await createDriver(options, { isolation: () => isolation, logger, clock }, signal);
  stack.defer(() => driver.close());
  const hosted = createHostedConferences({ driver, capacity: options.capacity, logger, clock });
  const adoption = await driver.hosted?.(signal);
  if (adoption) hosted.adopt(adoption.rooms);

  const registration = createRegistration({
    servers: client.servers,
    facts: () => ({
      serverId: options.id,
      agentAddress,
      capacity: options.capacity,
      region: options.region,
      labels: options.labels,
      driver: driver.name,
      instanceId: driver.instanceId,
    }),
    onAnswer: (answer) => {
      wasOpen ||= !answer.server.drain?.done;
      noteAnswer(guard, answer);
    },
    logger,
    clock,
  });
  const guard = createIsolation({
    policy: options.isolation,
    hosted,
    ask: () => registration.renew(),
    async endLife(s) {
      await hosted.clear(() => driver.renew(s));
      registration.forget();
    },
    logger,
    clock,
    ...(adoption?.leftMs === undefined ? {} : { firstMs: adoption.leftMs }),
  });
  isolation = guard;
  const service = createAgentService({
    serverId: options.id,
    driver,
    hosted,
    registration,
    isolation: guard,
    logger,
  });
  const listener = await listenGrpc({
    address: options.listen,
    services: [instrumented(mounted(AgentService, service), logger, clock)],
  });
  stack.defer(() => listener.stop(STOP_GRACE_MS));
  const advertise = parseAddress(options.advertise);
  const agentAddress = formatAddress(advertise.host, advertise.port || parseAddress(listener.address).port);
  const { id: serverId, endpoint } = options;
  logger.info({ serverId, agentAddress, endpoint, adopted: hosted.count }, "agent serving");
  onServing?.(agentAddress);

  const ending = new AbortController();
  const end = () => ending.abort();
  signal.addEventListener("abort", end, { once: true });
  stack.defer(() => signal.removeEventListener("abort", end));
  if (signal.aborted) end();
  let drained: DrainOutcome | "by operator" | undefined;
  const shared = { servers: client.servers, serverId, hosted, logger, clock };
  await runTasks(
    ending.signal,
    (s) => registration.run(s),
    (s) => guard.run(s),
    (s) =>
      runReconcile(
        {
          ...shared,
          conferences: client.conferences,
          moveLingerMs: options.moveLingerMs,
          onConnected: () => registration.renew(),
          onHeard: () => guard.heard(),
          onLost: (cause) => guard.voided(cause),
        },
        s,
      ),
    async (s) => {
      if (!drain || !(await aborts(drain, s))) return;
      drained = "not done";
      const { drainDeadlineMs: deadlineMs, drainTimeoutMs: timeoutMs } = options;
      drained = await runDrain({ ...shared, deadlineMs, timeoutMs }, s);
      end();
    },
    async (s) => {
      if (!options.exitWhenDrained) return;
      await untilDrained({ ...shared, wasOpen: () => wasOpen }, s);
      drained = "by operator";
      logger.info({ serverId }, "drained by an operator");
      end();
    },
    async (s) => {
      if (await aborts(driver.ended, s))
        throw new LifeOverError("the conference server's life is over", { cause: driver.ended.reason });
    },
  );
  if (drained === undefined) await announceAbsence(options, driver, registration, logger);
  if (drained === "done") await forgetDrained(shared);
  logger.info({ serverId, conferences: hosted.count }, "agent stopping");
}

function noteAnswer(isolation: Isolation, answer: RegistrationAnswer) {
  const { server, previousIncarnation, detection, sentMs } = answer;
  if (detection) isolation.setLimit(isolationMs(readDetection(detection)));
  if (server.state === Server_State.DOWN) isolation.voided("the control plane holds the server to be down");
  else if (previousIncarnation !== 0n && server.incarnation !== previousIncarnation)
    isolation.voided(`the control plane counts incarnation ${server.incarnation}`);
  else isolation.confirmed(sentMs);
}

/** Has the control plane, and a conference server whose rooms go on without the agent, wait for its return. */
async function announceAbsence(
  { id: serverId, restartWithinMs }: CompiledAgentOptions,
  driver: Driver,
  registration: Registration,
  logger: Logger,
): Promise<void> {
  if (!driver.leave || restartWithinMs === 0) return;
  // Not the agent's own, which has aborted; each of the calls has a deadline.
  const { signal } = new AbortController();
  try {
    await registration.announceRestart(restartWithinMs, signal);
    await driver.leave(restartWithinMs, signal);
    logger.info({ serverId, restartWithinMs }, "expected back");
  } catch (err) {
    logger.warn({ err, serverId }, "cannot announce the restart; conferences may be moved meanwhile");
  }
}

/** Resolves with true when `awaited` aborts, and with false when the signal aborts first. */
function aborts(awaited: AbortSignal, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = () => {
      awaited.removeEventListener("abort", settle);
      signal.removeEventListener("abort", settle);
      resolve(!signal.aborted);
    };
    awaited.addEventListener("abort", settle);
    signal.addEventListener("abort", settle);
    if (awaited.aborted || signal.aborted) settle();
  });
}
