/**
 * How long after SIGKILL a dispatcher's registration is gone from every replica, and its claims are in other hands.
 * `node test/bench/dead-dispatcher.bench.ts [ROUNDS]`: a real etcd, three replicas, two dispatchers with default settings.
 * The promise: gone within TTL + 1 s, taken within one tick (1 s) after that.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createProcessGroup } from "../../client/cli/demo/processes.ts";
import { createConvokeClient } from "../../client/transport/client.ts";
import { timestampFromMs } from "../../common/time.ts";
import { startEtcd } from "../support/etcd.ts";
import { holdAgent } from "../support/held-agent.ts";

const ROUNDS = Number(process.argv[2] ?? 3);
const CONFERENCES = 200;
const TTL_MS = 5_000;
const TICK_MS = 1_000;
const POLL_MS = 5;
const DEADLINE_MS = 60_000;

const program = [process.execPath, fileURLToPath(new URL("../../bin/convoke.js", import.meta.url))] as const;
const directory = await mkdtemp(join(tmpdir(), "convoke-bench-"));
await using etcd = await startEtcd();
await using group = createProcessGroup(program, directory);
const store = `etcd://${etcd.members.map(({ endpoint }) => endpoint).join(",")}/bench`;

const endpoints: string[] = [];
for (const name of ["replica-1", "replica-2", "replica-3"]) {
  const replica = group.start(name, [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--http",
    "127.0.0.1:0",
    "--store",
    store,
  ]);
  endpoints.push(String((await replica.logged("serving", AbortSignal.timeout(DEADLINE_MS))).grpc));
}
const clients = endpoints.map((endpoint) => createConvokeClient({ endpoint }));
const [client] = clients;
if (!client) throw new Error("no replica");

async function until(condition: () => Promise<boolean>): Promise<number> {
  const giveUpMs = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > giveUpMs) throw new Error("it did not happen within a minute");
    await pause(POLL_MS);
  }
  return performance.now();
}

console.log("round  gone from every replica  all claims taken after that");
for (let round = 1; round <= ROUNDS; round++) {
  // The agent does not answer, so what the victim has claimed stays claimed.
  await using agent = await holdAgent(client, `s${round}`, CONFERENCES);
  const victimId = `victim-${round}`;
  const options = ["--endpoint", endpoints.join(",")];
  const victim = group.start(victimId, ["dispatcher", "--id", victimId, ...options]);
  const isThere = async (on = client) =>
    (await on.dispatchers.listDispatchers({})).dispatchers.some(
      ({ dispatcherId }) => dispatcherId === victimId,
    );
  await until(() => isThere());
  const requests = Array.from({ length: CONFERENCES }, (_, index) => ({
    conference: {
      conferenceId: `c-${round}-${index}`,
      startTime: timestampFromMs(Date.now() + 60_000),
      endTime: timestampFromMs(Date.now() + 3_600_000),
    },
  }));
  await client.conferences.batchCreateConferences({ requests });
  const claimedBy = async (id: string) => {
    const { conferences } = await client.conferences.listConferences({ pageSize: 1000 });
    return conferences.filter(
      ({ conferenceId, claim }) => conferenceId.startsWith(`c-${round}-`) && claim?.dispatcherId === id,
    ).length;
  };
  await until(async () => (await claimedBy(victimId)) === CONFERENCES);
  const heir = group.start(`heir-${round}`, ["dispatcher", "--id", `heir-${round}`, ...options]);
  await heir.logged("registered", AbortSignal.timeout(DEADLINE_MS)).catch(() => undefined);
  await agent.started();
  const killedMs = performance.now();
  await victim.kill();
  const goneMs = Math.max(
    ...(await Promise.all(clients.map((each) => until(async () => !(await isThere(each)))))),
  );
  const takenMs = await until(async () => (await claimedBy(`heir-${round}`)) === CONFERENCES);
  const gone = Math.round(goneMs - killedMs);
  const taken = Math.round(takenMs - goneMs);
  console.log(`${round}      ${gone} ms (promise ${TTL_MS + 1_000})       ${taken} ms (promise ${TICK_MS})`);
  // Nothing of this round may be due in the next, nor go to a server whose agent is gone.
  await client.servers.cordonServer({ serverId: `s${round}` });
  for (const { conference } of requests) await client.conferences.cancelConference(conference);
  agent.release();
  await heir.kill();
}
for (const each of clients) each.close();
await rm(directory, { recursive: true, force: true });
