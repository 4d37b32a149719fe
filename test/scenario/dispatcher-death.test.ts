import { describe, expect, it } from "vitest";
import { watchDispatches } from "../../client/watch.ts";
import { timestampFromMs } from "../../common/time.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import type { DispatchEvent } from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { type Deployment, startDeployment } from "../support/deployment.ts";
import { holdAgent } from "../support/held-agent.ts";

const PATIENCE = { timeout: 30_000, interval: 50 };

async function createConferences(deployment: Deployment, count: number): Promise<string[]> {
  const nowMs = Date.now();
  const ids = Array.from({ length: count }, (_, index) => `conf-${index}`);
  const { results } = await deployment.client.conferences.batchCreateConferences({
    requests: ids.map((conferenceId) => ({
      conference: {
        conferenceId,
        startTime: timestampFromMs(nowMs + 60_000),
        endTime: timestampFromMs(nowMs + 3_600_000),
      },
    })),
  });
  expect(results).toHaveLength(count);
  return ids;
}

async function registered(deployment: Deployment, dispatcherId: string): Promise<bigint | undefined> {
  const { dispatchers } = await deployment.client.dispatchers.listDispatchers({});
  return dispatchers.find((dispatcher) => dispatcher.dispatcherId === dispatcherId)?.epoch;
}

describe("a dispatcher", () => {
  it("that is killed between claim and commit loses its claims to the others (I1, I3)", async () => {
    await using deployment = await startDeployment();
    const { client } = deployment;
    const agent = await holdAgent(client, "s1");
    await using _agent = agent;
    const ids = await createConferences(deployment, 20);
    const victim = deployment.start("d1", ["dispatcher", "--id", "d1", "--ttl", "2s"]);
    const [started] = await agent.started();
    expect(started).toBeDefined();
    await victim.kill();

    deployment.start("d2", ["dispatcher", "--id", "d2", "--ttl", "2s"]);
    agent.release();
    await expect
      .poll(async () => (await client.conferences.listDispatches({})).dispatches.length, PATIENCE)
      .toBe(20);
    const { conferences } = await client.conferences.listConferences({});
    expect(conferences.map(({ conferenceId }) => conferenceId).sort()).toEqual(ids.toSorted());
    for (const { state, dispatch, supersededClaim, conferenceId } of conferences) {
      expect(state).toBe(Conference_State.ACTIVE);
      expect(dispatch?.dispatcherId).toBe("d2");
      expect(supersededClaim?.dispatcherId).toBe("d1");
      // The fencing token has risen, and the table holds the newest the agent was given (I2).
      expect(dispatch?.epoch).toBeGreaterThan(supersededClaim?.dispatchEpoch ?? 0n);
      expect(dispatch?.epoch).toBe(agent.epochs.get(conferenceId)?.at(-1));
    }
  });

  it("that is paused past its lease and wakes changes nothing, and registers anew (I1, I5)", async () => {
    await using deployment = await startDeployment();
    const { client } = deployment;
    const agent = await holdAgent(client, "s1");
    await using _agent = agent;
    await createConferences(deployment, 20);
    const sleeper = deployment.start("d1", ["dispatcher", "--id", "d1", "--ttl", "2s"]);
    await agent.started();
    const oldEpoch = await registered(deployment, "d1");
    process.kill(sleeper.pid, "SIGSTOP");
    try {
      await expect.poll(() => registered(deployment, "d1"), PATIENCE).toBeUndefined();
      deployment.start("d2", ["dispatcher", "--id", "d2", "--ttl", "5s"]);
      // The answers that the sleeper waits for lie ready when it wakes.
      agent.release();
      await expect
        .poll(async () => (await client.conferences.listDispatches({})).dispatches.length, PATIENCE)
        .toBe(20);
    } finally {
      const { dispatches, revision } = await client.conferences.listDispatches({});
      const changes: DispatchEvent[] = [];
      const following = new AbortController();
      const followed = (async () => {
        for await (const update of watchDispatches(client.conferences, {
          revision,
          signal: following.signal,
        })) {
          if (update.kind === "events") changes.push(...update.events);
        }
      })().catch(() => {});
      process.kill(sleeper.pid, "SIGCONT");
      // Back with a new epoch, it has had every chance to write under the old one.
      await expect
        .poll(async () => (await registered(deployment, "d1")) ?? 0n, PATIENCE)
        .toBeGreaterThan(oldEpoch ?? 0n);
      const marker = await client.conferences.createConference({
        conference: {
          conferenceId: "marker",
          startTime: timestampFromMs(Date.now() + 60_000),
          endTime: timestampFromMs(Date.now() + 120_000),
        },
      });
      expect(marker.conference?.conferenceId).toBe("marker");
      await expect
        .poll(() => changes.some(({ dispatch }) => dispatch?.conferenceId === "marker"), PATIENCE)
        .toBe(true);
      expect(changes.filter(({ dispatch }) => dispatch?.conferenceId !== "marker")).toEqual([]);
      const after = (await client.conferences.listDispatches({})).dispatches;
      expect(after.filter(({ conferenceId }) => conferenceId !== "marker")).toEqual(dispatches);
      following.abort();
      await followed;
    }
  });
});
