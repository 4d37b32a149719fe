import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { timestampFromMs } from "../../common/time.ts";
import { type Deployment, startDeployment } from "../support/deployment.ts";

const run = promisify(execFile);
const README = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const COMMANDS = [...README.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block]) =>
  (block ?? "").trim().split("\n"),
);

describe("the README's lines", () => {
  let deployment: Deployment;
  let epoch = 0n;
  beforeAll(async () => {
    deployment = await startDeployment();
    deployment.start("s1", ["agent", "--id", "s1", "--capacity", "200"]);
    const { client } = deployment;
    await vi.waitUntil(async () => (await client.servers.listServers({})).servers.length === 1, 30_000);
    const { dispatcher } = await client.dispatchers.registerDispatcher({
      dispatcherId: "me",
      ttl: { seconds: 60n },
    });
    epoch = dispatcher?.epoch ?? 0n;
    await client.conferences.createConference({
      conference: {
        conferenceId: "earlier",
        startTime: timestampFromMs(Date.now() + 60_000),
        endTime: timestampFromMs(Date.now() + 120_000),
      },
    });
  });
  afterAll(() => deployment[Symbol.asyncDispose]());

  /** Runs a line of the README against the test's own control plane. */
  async function readmeLine(beginning: string, part: string) {
    const line = COMMANDS.find((command) => command.startsWith(beginning) && command.includes(part));
    expect(line, `a line "${beginning}…${part}"`).toBeDefined();
    const command = (line ?? "")
      .replaceAll("127.0.0.1:7400", deployment.endpoint)
      .replaceAll("127.0.0.1:7480", deployment.http)
      .replace('"epoch": 7', `"epoch": ${epoch}`);
    const { stdout } = await run("bash", ["-c", command], {
      timeout: 50_000,
      env: { ...process.env, CONVOKE_ENDPOINT: deployment.endpoint },
    });
    return stdout;
  }

  it("list the services through reflection", async () => {
    const services = await readmeLine("npx buf curl", "--list-services");
    expect(services).toContain("convoke.v1.ConferenceService");
    expect(services).toContain("convoke.v1.DispatcherService");
    expect(services).toContain("convoke.v1.ServerService");
  });

  it("query, fetch and register by buf curl", async () => {
    expect(JSON.parse(await readmeLine("npx buf curl", "QueryTotal"))).toMatchObject({ total: 1, share: 1 });
    const tasks = JSON.parse(await readmeLine("npx buf curl", "FetchTasks")).tasks;
    expect(tasks).toHaveLength(1);
    expect(tasks[0]).toMatchObject({ conferenceId: "earlier", attempt: 1 });
    expect(JSON.parse(await readmeLine("npx buf curl", "RegisterDispatcher"))).toMatchObject({
      dispatcher: { dispatcherId: "me" },
      heartbeatInterval: "20s",
    });
  });

  it("query by plain JSON and answer the probes", async () => {
    expect(JSON.parse(await readmeLine("curl", "QueryTotal"))).toMatchObject({ dispatcherCount: 1 });
    expect(await readmeLine("curl", "healthz")).toBe("ok\n");
    expect(await readmeLine("curl", "readyz")).toBe("ok\n");
    expect(JSON.parse(await readmeLine("curl", "GetDispatch"))).toMatchObject({ code: "not_found" });
  });

  it("schedule, place and look up by the command, and the examples work", async () => {
    const { dispatchers } = await deployment.client.dispatchers.listDispatchers({});
    await deployment.client.dispatchers.deregisterDispatcher({
      dispatcherId: "me",
      epoch: dispatchers[0]?.epoch ?? 0n,
    });
    deployment.start("d1", ["dispatcher", "--id", "d1"]);
    expect(await readmeLine("npx convoke create", "standup")).toBe("conference/standup created\n");
    await expect
      .poll(
        () =>
          deployment.client.conferences.getDispatch({ conferenceId: "standup" }).then(Boolean, () => false),
        {
          timeout: 30_000,
        },
      )
      .toBe(true);
    expect(await readmeLine("npx convoke get", "conferences")).toMatch(/standup\s+ACTIVE/);
    expect(JSON.parse(await readmeLine("npx convoke get", "dispatch standup"))).toMatchObject({
      serverId: "s1",
    });
    const env = { ...process.env, CONVOKE_ENDPOINT: deployment.endpoint };
    const join = await run(process.execPath, ["client/examples/schedule-and-join.ts"], {
      env,
      timeout: 50_000,
    });
    expect(join.stdout).toMatch(/is on s1: join ws:/);
    const servers = await run(process.execPath, ["client/examples/list-servers.ts"], {
      env,
      timeout: 50_000,
    });
    expect(servers.stdout).toMatch(/^s1: \d+ conferences, \d+ of 200 units/);
  });
});
