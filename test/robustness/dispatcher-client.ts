import { TaskRelease_Cause } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { CALL_TIMEOUT_MS, type ClientContext, pause } from "./client-context.ts";
import type { CommitItem, TaskItem } from "./history.ts";
import { timed } from "./recorder.ts";

/** How a dispatcher goes wrong: it forgets all and registers anew, or sleeps past its lease and goes on as if nothing was. */
export type Mischief = "vanish" | "oversleep";

/** A dispatcher as the contract has it, with a way to make it go wrong. */
export interface DispatcherClient {
  run(): Promise<void>;
  /** At its next step. */
  misbehave(mischief: Mischief): void;
}

/** The one conference server of a run; nobody asks an agent, so none is needed. */
export const SERVER = { serverId: "s1", incarnation: 1n } as const;

/** etcd grants no less with its default election timeout. */
const TTL_MS = 2_000;
const HEARTBEAT_MS = TTL_MS / 4;
const FETCH_WAIT_MS = 300;
const MEAN_PAUSE_MS = 30;

export function createDispatcherClient(context: ClientContext, dispatcherId: string): DispatcherClient {
  const { name, once, api, recorder, random, signal } = context;
  const options = { timeoutMs: CALL_TIMEOUT_MS };
  const base = { client: name, once };
  let mischief: Mischief | undefined;

  async function register(): Promise<number | undefined> {
    const result = await timed(once, async () => {
      const ttl = { seconds: BigInt(TTL_MS / 1_000) };
      const { dispatcher } = await api.dispatchers.registerDispatcher({ dispatcherId, ttl }, options);
      const grantedMs = Number(dispatcher?.ttl?.seconds ?? 0n) * 1_000;
      return { epoch: Number(dispatcher?.epoch), ttlMs: grantedMs };
    });
    recorder.add({ ...base, call: "register", args: { dispatcherId }, ...result });
    return result.outcome.kind === "ok" ? result.outcome.result.epoch : undefined;
  }

  /** Beside the work, as real dispatchers do. */
  async function beat(epoch: number, ended: AbortSignal) {
    while (!ended.aborted) {
      const result = await timed(once, async () => {
        await api.dispatchers.heartbeat({ dispatcherId, epoch: BigInt(epoch) }, options);
        return null;
      });
      recorder.add({ ...base, call: "heartbeat", args: { dispatcherId, epoch }, ...result });
      if (result.outcome.kind === "failed") return;
      await pause({ ...context, signal: ended }, HEARTBEAT_MS / 2);
    }
  }

  async function query() {
    const result = await timed(once, async () => {
      const answer = await api.dispatchers.queryTotal({ dispatcherId }, options);
      const { total, revision, dispatcherCount, rank, share } = answer;
      return { total, revision: Number(revision), dispatcherCount, rank, share };
    });
    recorder.add({ ...base, call: "query", args: { dispatcherId }, ...result });
  }

  /** The tasks, and whether the epoch is known to be over. */
  async function fetch(epoch: number) {
    const tasks: (TaskItem & { receivedMs: number })[] = [];
    const request = { dispatcherId, epoch: BigInt(epoch), wait: { nanos: FETCH_WAIT_MS * 1e6 } };
    const result = await timed(once, async () => {
      for await (const message of api.dispatchers.fetchTasks(request, options)) {
        const receivedMs = performance.now();
        for (const { conferenceId, dispatchEpoch } of message.tasks)
          tasks.push({ conferenceId, dispatchEpoch: Number(dispatchEpoch), receivedMs });
      }
      return null;
    });
    recorder.add({ ...base, call: "fetch", args: { dispatcherId, epoch, tasks }, ...result });
    return { tasks, over: result.outcome.kind === "failed" };
  }

  async function commit(epoch: number, tasks: readonly TaskItem[]) {
    const items: CommitItem[] = tasks.map(({ conferenceId, dispatchEpoch }) => ({
      conferenceId,
      dispatchEpoch,
      address: `ws://127.0.0.1:9/${dispatcherId}/${conferenceId}/${dispatchEpoch}`,
    }));
    const dispatches = items.map((item) => ({
      ...item,
      ...SERVER,
      dispatchEpoch: BigInt(item.dispatchEpoch),
    }));
    const result = await timed(once, async () => {
      const request = { dispatcherId, epoch: BigInt(epoch), dispatches };
      const { results } = await api.dispatchers.commitDispatches(request, options);
      return results.map(({ outcome }) =>
        outcome.case === "rejection" ? ErrorReason[outcome.value.reason] : undefined,
      );
    });
    recorder.add({ ...base, call: "commit", args: { dispatcherId, epoch, items }, ...result });
  }

  async function release(epoch: number, tasks: readonly TaskItem[]) {
    const items = tasks.map(({ conferenceId, dispatchEpoch }) => ({ conferenceId, dispatchEpoch }));
    const releases = items.map(({ conferenceId, dispatchEpoch }) => ({
      conferenceId,
      dispatchEpoch: BigInt(dispatchEpoch),
      cause: TaskRelease_Cause.SHUTTING_DOWN,
    }));
    const result = await timed(once, async () => {
      const { results } = await api.dispatchers.releaseTasks(
        { dispatcherId, epoch: BigInt(epoch), releases },
        options,
      );
      return results.map(({ rejection }) => (rejection ? ErrorReason[rejection.reason] : undefined));
    });
    recorder.add({ ...base, call: "release", args: { dispatcherId, epoch, items }, ...result });
  }

  /** Works under one epoch until it is over, or until it goes wrong. */
  async function work(epoch: number) {
    const ended = new AbortController();
    const beating = beat(epoch, AbortSignal.any([ended.signal, signal]));
    try {
      while (!signal.aborted) {
        if (random() < 0.5) await query();
        const { tasks, over } = await fetch(epoch);
        if (over) return;
        const committed = tasks.filter(() => random() < 0.85);
        // Of the rest some are given back, and some forgotten: FetchTasks has to tell them again.
        const released = tasks.filter((task) => !committed.includes(task) && random() < 0.5);
        const now = mischief;
        mischief = undefined;
        if (now === "vanish") return;
        if (now === "oversleep") {
          ended.abort();
          await beating;
          await pause({ ...context, random: () => 1 }, 1.5 * TTL_MS);
        }
        if (committed.length > 0) await commit(epoch, committed);
        if (released.length > 0) await release(epoch, released);
        if (now === "oversleep") return;
        await pause(context, MEAN_PAUSE_MS);
      }
    } finally {
      ended.abort();
      await beating;
    }
  }

  return {
    async run() {
      while (!signal.aborted) {
        const epoch = await register();
        if (epoch !== undefined) await work(epoch);
        await pause(context, MEAN_PAUSE_MS * 5);
      }
    },
    misbehave(how) {
      mischief = how;
    },
  };
}
