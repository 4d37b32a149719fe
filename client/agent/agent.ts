import { formatAddress, parseAddress } from "../../common/address.ts";
import { type Clock, systemClock } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { listenGrpc } from "../../common/rpc/grpc-listener.ts";
import { instrumented } from "../../common/rpc/instrument.ts";
import { runTasks } from "../../common/run-tasks.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { createConvokeClient } from "../transport/client.ts";
import { type AgentOptions, type CompiledAgentOptions, compileAgentOptions } from "./agent-options.ts";
import { createAgentService } from "./agent-service.ts";
import type { Driver } from "./drivers/driver.ts";
import { createLoopbackDriver } from "./drivers/loopback.ts";
import { createHostedConferences } from "./hosted.ts";
import { runReconcile } from "./reconcile/reconcile.ts";
import { createRegistration } from "./registration.ts";

export interface AgentDependencies {
  readonly logger: Logger;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Called once the agent answers calls, with the address it gives to the control plane. */
  readonly onServing?: (agentAddress: string) => void;
}

/** How long calls under way have to finish when the agent stops. */
const STOP_GRACE_MS = 5_000;

/**
 * Runs an agent until the signal aborts, then stops it in phases: no new calls, those under way finish, the registration
 * and the watch end, the driver lets go of the conference server.
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
  const { logger, clock = systemClock, onServing } = dependencies;
  await using stack = new AsyncDisposableStack();
  const client = stack.use(createConvokeClient({ endpoint: options.endpoint }));
  const driver = await createDriver(options, logger, clock);
  stack.defer(() => driver.close());
  const hosted = createHostedConferences({ driver, capacity: options.capacity, logger, clock });
  const registration = createRegistration({ servers: client.servers, logger, clock });
  const service = createAgentService({ serverId: options.id, driver, hosted, registration, logger });
  const listener = await listenGrpc({
    address: options.listen,
    services: [instrumented(mounted(AgentService, service), logger, clock)],
  });
  stack.defer(() => listener.stop(STOP_GRACE_MS));
  const advertise = parseAddress(options.advertise);
  const agentAddress = formatAddress(advertise.host, advertise.port || parseAddress(listener.address).port);
  const facts = {
    serverId: options.id,
    agentAddress,
    capacity: options.capacity,
    region: options.region,
    labels: options.labels,
    driver: driver.name,
    instanceId: driver.instanceId,
  };
  logger.info({ ...facts, endpoint: options.endpoint }, "agent serving");
  onServing?.(agentAddress);
  await runTasks(
    signal,
    (s) => registration.run(facts, s),
    (s) =>
      runReconcile(
        {
          conferences: client.conferences,
          serverId: options.id,
          hosted,
          logger,
          clock,
          onConnected: () => registration.renew(),
        },
        s,
      ),
    (s) => untilEnded(driver, s),
  );
  logger.info({ serverId: options.id, conferences: hosted.count }, "agent stopping");
}

function createDriver(
  { driver, roomsListen, roomsAdvertise }: CompiledAgentOptions,
  logger: Logger,
  clock: Clock,
): Promise<Driver> {
  switch (driver) {
    case "loopback":
      return createLoopbackDriver({ listen: roomsListen, advertise: roomsAdvertise, logger, clock });
  }
}

/** Resolves when the signal aborts; rejects when the conference server's life ends first. */
async function untilEnded(driver: Driver, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = () => {
      signal.removeEventListener("abort", done);
      driver.ended.removeEventListener("abort", done);
      resolve();
    };
    signal.addEventListener("abort", done);
    driver.ended.addEventListener("abort", done);
    if (signal.aborted || driver.ended.aborted) done();
  });
  if (!signal.aborted)
    throw new Error("the conference server's life is over", { cause: driver.ended.reason });
}
