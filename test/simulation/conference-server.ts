import { createAgentService } from "../../client/agent/agent-service.ts";
import type { Driver } from "../../client/agent/drivers/driver.ts";
import { createHostedConferences, type HostedConferences } from "../../client/agent/hosted.ts";
import { createIsolation } from "../../client/agent/isolation.ts";
import { runReconcile } from "../../client/agent/reconcile/reconcile.ts";
import { createRegistration, type RegistrationAnswer } from "../../client/agent/registration.ts";
import { sleep } from "../../common/clock.ts";
import { isolationMs, readDetection } from "../../common/detection.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { AgentService } from "../../proto/gen/convoke/v1/agent_service_pb.js";
import { ConferenceService } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import type { Chance } from "./chance.ts";
import { createSimulatedProcess, type SimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** A conference server: rooms in memory, and the real agent beside them. */
export interface ConferenceServer {
  readonly id: string;
  readonly address: string;
  readonly capacity: number;
  /** The process that runs, or ran last, with all its rooms. */
  readonly process: SimulatedProcess;
  /** Names the life of its rooms. */
  readonly instanceId: string;
  /** The rooms there are, and the epoch each was last started under. */
  readonly rooms: ReadonlyMap<string, bigint>;
  readonly hosted: HostedConferences;
  /** The part of the starts that its driver refuses. */
  failingStarts: number;
  /** Starts a process, and with it a life without rooms. */
  start(): void;
}

/** What a start or a stop takes on a conference server. */
const DRIVER_MS = { least: 1, most: 30, slow: 1_500 } as const;
const SLOW_STARTS = 0.02;

/** How long a room goes on after a drain has moved its conference: the default of agents. */
const MOVE_LINGER_MS = 2_000;

export function createConferenceServer(
  world: World,
  id: string,
  capacity: number,
  chance: Chance,
): ConferenceServer {
  const address = `${id}.example:1`;
  let lives = 0;
  const driverDelay = () =>
    chance.happens(SLOW_STARTS)
      ? chance.between(DRIVER_MS.most, DRIVER_MS.slow)
      : chance.between(DRIVER_MS.least, DRIVER_MS.most);
  const nextInstanceId = () => {
    lives += 1;
    return `${id}-life-${lives}`;
  };

  /** Puts the parts of the agent together as `runAgent` does, without its sockets. */
  function begin() {
    const process = createSimulatedProcess(id, world.time);
    const { clock, signal: never } = process;
    const logger = world.trace.logger(id);
    const rooms = new Map<string, bigint>();
    let instanceId = nextInstanceId();
    Object.assign(server, { process, rooms, instanceId });
    const driver: Driver = {
      name: "simulated",
      get instanceId() {
        return instanceId;
      },
      ended: never,
      participantCount: 0,
      async start({ conferenceId, dispatchEpoch }, signal) {
        const life = instanceId;
        world.invariants.roomStarts(server, conferenceId, dispatchEpoch);
        await sleep(clock, driverDelay(), signal);
        if (chance.happens(server.failingStarts) || life !== instanceId)
          throw new Error("the conference server could not");
        rooms.set(conferenceId, dispatchEpoch);
        return { address: `wss://${id}.example/${conferenceId}` };
      },
      async stop(conferenceId, signal) {
        await sleep(clock, driverDelay(), signal);
        rooms.delete(conferenceId);
      },
      async renew() {
        world.trace.event(id, () => `ends its life ${instanceId} with ${rooms.size} rooms`);
        instanceId = nextInstanceId();
        server.instanceId = instanceId;
        rooms.clear();
      },
      participants: () => 0,
      healthy: async () => ({ healthy: true }),
      close: async () => {},
    };
    const hosted = createHostedConferences({ driver, capacity, logger, clock });
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
        instanceId,
      }),
      onAnswer: noteAnswer,
      logger,
      clock,
    });
    const isolation = createIsolation({
      policy: "stop",
      hosted,
      ask: () => registration.renew(),
      async endLife(signal) {
        await hosted.clear(() => driver.renew(signal));
        registration.forget();
      },
      logger,
      clock,
    });

    function noteAnswer({ server: told, previousIncarnation, detection, sentMs }: RegistrationAnswer) {
      if (detection) isolation.setLimit(isolationMs(readDetection(detection)));
      if (told.state === Server_State.DOWN) isolation.voided("the control plane holds the server to be down");
      else if (previousIncarnation !== 0n && told.incarnation !== previousIncarnation)
        isolation.voided(`the control plane counts incarnation ${told.incarnation}`);
      else isolation.confirmed(sentMs);
    }

    const service = createAgentService({ serverId: id, driver, hosted, registration, isolation, logger });
    world.rpc.listen(address, process, [mounted(AgentService, service)]);
    Object.assign(server, { hosted });
    world.background(id, registration.run(never));
    world.background(id, isolation.run(never));
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
        never,
      ),
    );
  }

  const server = {
    id,
    address,
    capacity,
    failingStarts: 0,
    start: begin,
    // Set by `start`, before anything looks at them.
  } as ConferenceServer & { instanceId: string };
  return server;
}
