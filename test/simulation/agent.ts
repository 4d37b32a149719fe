import { createAgentService } from "../../client/agent/agent-service.ts";
import type { Driver } from "../../client/agent/drivers/driver.ts";
import { createHostedConferences } from "../../client/agent/hosted.ts";
import { createIsolation, type Isolation } from "../../client/agent/isolation.ts";
import { runReconcile } from "../../client/agent/reconcile/reconcile.ts";
import { createRegistration, type RegistrationAnswer } from "../../client/agent/registration.ts";
import { isolationMs, readDetection } from "../../common/detection.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import type { ConferenceServer } from "./conference-server.ts";
import type { SimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** How long a room goes on after a drain has moved its conference: the default of agents. */
const MOVE_LINGER_MS = 2_000;

/** An agent, as its supervisor knows it. */
export interface SimulatedAgent {
  /** Says that it will be back within this time, as an agent does that is stopped in an orderly way. */
  announceRestart(withinMs: number): Promise<void>;
}

/**
 * Puts the parts of an agent together as `runAgent` does, without its sockets.
 * @param connect connects to the rooms; it is told where to ask for how long they may go on
 */
export async function startAgent(
  world: World,
  { id, address, capacity }: Pick<ConferenceServer, "id" | "address" | "capacity">,
  process: SimulatedProcess,
  connect: (leftMs: () => number) => Driver,
): Promise<SimulatedAgent> {
  const { clock, signal } = process;
  const logger = world.trace.logger(id);
  const parts: { isolation?: Isolation } = {};
  const driver = connect(() => parts.isolation?.leftMs ?? 0);
  const hosted = createHostedConferences({ driver, capacity, logger, clock });
  const adoption = await driver.hosted?.(signal);
  if (adoption) hosted.adopt(adoption.rooms);
  const client = world.controlPlaneClient(process);
  const servers = world.rpc.client(ServerService, client);
  const conferences = world.rpc.client(ConferenceService, client);
  const registration = createRegistration({
    servers,
    facts: () => ({
      serverId: id,
      agentAddress: address,
      capacity,
      region: "",
      labels: {},
      driver: driver.name,
      instanceId: driver.instanceId,
    }),
    onAnswer: (answer) => noteAnswer(isolation, answer),
    logger,
    clock,
  });
  const isolation = createIsolation({
    policy: "stop",
    hosted,
    ask: () => registration.renew(),
    async endLife(ending) {
      await hosted.clear(() => driver.renew(ending));
      registration.forget();
    },
    logger,
    clock,
    ...(adoption?.leftMs === undefined ? {} : { firstMs: adoption.leftMs }),
  });
  parts.isolation = isolation;
  const service = createAgentService({ serverId: id, driver, hosted, registration, isolation, logger });
  world.rpc.listen(address, process, [mounted(AgentService, service)]);
  world.background(id, registration.run(signal));
  world.background(id, isolation.run(signal));
  world.background(
    id,
    runReconcile(
      {
        conferences,
        serverId: id,
        hosted,
        logger,
        clock,
        moveLingerMs: MOVE_LINGER_MS,
        onConnected: () => registration.renew(),
        onHeard: () => isolation.heard(),
        onLost: (cause) => isolation.voided(cause),
      },
      signal,
    ),
  );
  return {
    async announceRestart(withinMs) {
      await registration.announceRestart(withinMs, signal);
      await driver.leave?.(withinMs, signal);
    },
  };
}

function noteAnswer(isolation: Isolation, answer: RegistrationAnswer) {
  const { server, previousIncarnation, detection, sentMs } = answer;
  if (detection) isolation.setLimit(isolationMs(readDetection(detection)));
  if (server.state === Server_State.DOWN) isolation.voided("the control plane holds the server to be down");
  else if (previousIncarnation !== 0n && server.incarnation !== previousIncarnation)
    isolation.voided(`the control plane counts incarnation ${server.incarnation}`);
  else isolation.confirmed(sentMs);
}
