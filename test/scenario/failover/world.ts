import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import {
  type ConvokeClient,
  createAgentClient,
  createConvokeClient,
} from "../../../client/transport/client.ts";
import { durationMs, timestampFromMs } from "../../../common/time.ts";
import type { HostedConference } from "../../../proto/gen/convoke/v1/agent_service_pb.js";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { type Server, Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { type ConvokeProcess, createConvokeProcesses, PROGRAM } from "./convoke-process.ts";
import { joinRoom, type Participant } from "./participant.ts";
import { soon } from "./patience.ts";
import { recordServers, type ServerHistory } from "./server-history.ts";
import { recordTable, type TableHistory } from "./table-history.ts";

/** What of a conference matters here. */
export interface ConferencePlan {
  /** How long it goes on from now. Default an hour. */
  readonly endInMs?: number;
  readonly requiredLabels?: Readonly<Record<string, string>>;
  readonly weight?: number;
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A control plane, dispatchers and agents, each a process, and watches that have seen everything since the beginning. */
export interface World extends AsyncDisposable {
  readonly endpoint: string;
  readonly client: ConvokeClient;
  readonly controlPlane: ConvokeProcess;
  readonly table: TableHistory;
  readonly servers: ServerHistory;
  /** Starts `convoke ARGS… --endpoint …`. */
  start(name: string, args: readonly string[]): ConvokeProcess;
  /** The same without an endpoint. */
  startAlone(name: string, args: readonly string[]): ConvokeProcess;
  /** Starts an agent; resolves once its server is UP in a life that was not there before. */
  startAgent(serverId: string, args?: readonly string[]): Promise<ConvokeProcess>;
  /** Starts the agent of a server that another agent has left; resolves once it is registered. */
  replaceAgent(serverId: string, args?: readonly string[]): Promise<ConvokeProcess>;
  /** Starts dispatchers; resolves once they are registered, in new epochs. */
  startDispatchers(...ids: readonly string[]): Promise<ConvokeProcess[]>;
  /** Starts the control plane again, on its data and its port. */
  restartControlPlane(): Promise<void>;
  /** Schedules conferences that run now; resolves once each has a row. */
  place(ids: readonly string[], plan?: ConferencePlan): Promise<void>;
  /** The newest agent of a server. */
  agentOf(serverId: string): ConvokeProcess;
  rowOf(conferenceId: string): Dispatch;
  /** The conferences on a server by the table, in order. */
  on(serverId: string): string[];
  server(serverId: string): Promise<Server>;
  /** What the server's agent says that it hosts. */
  hosted(serverId: string): Promise<HostedConference[]>;
  /** A participant in the room where the table has the conference. */
  join(conferenceId: string): Promise<Participant>;
  /** For how long an agent goes on unheard. */
  isolationMs(): Promise<number>;
  /** Runs a command to its end. */
  convoke(...args: readonly string[]): Promise<CommandResult>;
}

export interface WorldOptions {
  /** Further arguments of `convoke serve`. */
  readonly serve?: readonly string[];
  /** Default: embedded, in a temporary directory. */
  readonly store?: string;
  /** Default: d1, d2, d3, as many as observe a server. */
  readonly dispatchers?: readonly string[];
  /** Agents by their server's ID, with further arguments. */
  readonly agents?: Readonly<Record<string, readonly string[]>>;
}

const COMMAND_TIMEOUT_MS = 30_000;
const HOUR_MS = 3_600_000;

/** IDs that sort as they were counted. */
export function ids(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(3, "0")}`);
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const { serve = [], dispatchers = ["d1", "d2", "d3"], agents = {} } = options;
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "convoke-failover-"));
  // Set to look at the processes' logs afterwards.
  if (process.env.CONVOKE_TEST_KEEP_LOGS) console.log(`logs in ${directory}`);
  else stack.defer(() => rm(directory, { recursive: true, force: true }));
  const processes = stack.use(createConvokeProcesses(directory));
  const store = options.store ?? `embedded:${join(directory, "store")}`;

  const startControlPlane = async (listen: string) => {
    const args = ["serve", "--listen", listen, "--http", "127.0.0.1:0", "--store", store, ...serve];
    const controlPlane = processes.start("control-plane", [...args, "--log-level", "debug"]);
    return { controlPlane, endpoint: String((await controlPlane.logged("serving")).grpc) };
  };
  let { controlPlane, endpoint } = await startControlPlane("127.0.0.1:0");
  const client = stack.use(createConvokeClient({ endpoint }));
  const table = stack.use(recordTable(client));
  const servers = stack.use(recordServers(client));

  const agentProcesses = new Map<string, ConvokeProcess>();
  const world: Omit<World, typeof Symbol.asyncDispose> = {
    endpoint,
    client,
    get controlPlane() {
      return controlPlane;
    },
    table,
    servers,
    startAlone: processes.start,
    start: (name, args) => processes.start(name, [...args, "--endpoint", endpoint, "--log-level", "debug"]),
    async startAgent(serverId, args = []) {
      const before = servers.servers.get(serverId)?.incarnation ?? 0n;
      const agent = await world.replaceAgent(serverId, args);
      const isUp = () => {
        const server = servers.servers.get(serverId);
        return server?.state === Server_State.UP && server.incarnation > before;
      };
      await soon(isUp).toBe(true);
      return agent;
    },
    async replaceAgent(serverId, args = []) {
      const capacity = args.includes("--capacity") ? [] : ["--capacity", "100000"];
      const agent = world.start(serverId, ["agent", "--id", serverId, ...capacity, ...args]);
      agentProcesses.set(serverId, agent);
      await agent.logged("server registered");
      return agent;
    },
    async startDispatchers(...ids) {
      const epochs = async () => {
        const { dispatchers: live } = await client.dispatchers.listDispatchers({});
        return new Map(live.map(({ dispatcherId, epoch }) => [dispatcherId, epoch]));
      };
      const before = await epochs();
      const started = ids.map((id) => world.start(id, ["dispatcher", "--id", id]));
      const allNew = async () => {
        const now = await epochs();
        return ids.every((id) => (now.get(id) ?? 0n) > (before.get(id) ?? 0n));
      };
      await soon(allNew).toBe(true);
      return started;
    },
    async restartControlPlane() {
      ({ controlPlane } = await startControlPlane(endpoint));
    },
    async place(ids, plan = {}) {
      const { endInMs = HOUR_MS, requiredLabels = {}, weight = 1 } = plan;
      const nowMs = Date.now();
      const { results } = await client.conferences.batchCreateConferences({
        requests: ids.map((conferenceId) => ({
          conference: {
            conferenceId,
            startTime: timestampFromMs(nowMs),
            endTime: timestampFromMs(nowMs + endInMs),
            requiredLabels: { ...requiredLabels },
            weight,
          },
        })),
      });
      expect(results.filter(({ rejection }) => rejection)).toEqual([]);
      await soon(() => ids.filter((id) => !table.rows.has(id))).toEqual([]);
    },
    agentOf(serverId) {
      const agent = agentProcesses.get(serverId);
      if (!agent) throw new Error(`no agent of ${serverId} was started`);
      return agent;
    },
    rowOf(conferenceId) {
      const row = table.rows.get(conferenceId);
      if (!row) throw new Error(`${conferenceId} has no row`);
      return row;
    },
    on: (serverId) =>
      [...table.rows.values()]
        .filter((row) => row.serverId === serverId)
        .map(({ conferenceId }) => conferenceId)
        .sort(),
    async server(serverId) {
      const { server } = await client.servers.getServer({ serverId });
      if (!server) throw new Error(`no server ${serverId}`);
      return server;
    },
    async hosted(serverId) {
      const { agentAddress } = await world.server(serverId);
      using agent = createAgentClient(agentAddress);
      return (await agent.listHostedConferences({ pageSize: 1000 })).conferences;
    },
    join: (conferenceId) => joinRoom(world.rowOf(conferenceId).address),
    async isolationMs() {
      const { detection } = await client.servers.getDetection({});
      if (!detection?.isolation) throw new Error("the control plane gives no isolation time");
      return durationMs(detection.isolation);
    },
    convoke: (...args) =>
      new Promise<CommandResult>((resolve) => {
        execFile(
          process.execPath,
          [PROGRAM, ...args, "--endpoint", endpoint],
          { timeout: COMMAND_TIMEOUT_MS },
          (err, stdout, stderr) => resolve({ code: err ? Number(err.code ?? 1) : 0, stdout, stderr }),
        );
      }),
  };

  await Promise.all([
    ...(dispatchers.length > 0 ? [world.startDispatchers(...dispatchers)] : []),
    ...Object.entries(agents).map(([serverId, args]) => world.startAgent(serverId, args)),
  ]);
  const owned = stack.move();
  return Object.assign(world, {
    async [Symbol.asyncDispose]() {
      const surprises = [...processes.surprises];
      await owned.disposeAsync();
      // Processes that nobody ended, and a table that broke its word (I2), fail whatever was tested.
      expect(surprises).toEqual([]);
      expect(table.violations).toEqual([]);
    },
  });
}
