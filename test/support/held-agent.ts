import { create } from "@bufbuild/protobuf";
import type { ConvokeClient } from "../../client/transport/client.ts";
import { mounted } from "../../common/rpc/grpc-adapter.ts";
import { listenGrpc } from "../../common/rpc/grpc-listener.ts";
import {
  AgentService,
  type ConferenceStart,
  type StartConferencesResponse,
  StartConferencesResponseSchema,
} from "../../proto/gen/convoke/v1/agent_service_pb.js";

/** An agent that a test holds in its hand: it says what was started, and answers when the test lets it. */
export interface HeldAgent extends AsyncDisposable {
  /** Resolves with the starts of the next call that comes, which waits for `release`. */
  started(): Promise<readonly ConferenceStart[]>;
  /** Lets every call that waits, and all that come, be answered with success. */
  release(): void;
  /** All dispatch epochs that were ever started, by conference. */
  readonly epochs: ReadonlyMap<string, readonly bigint[]>;
  /** The conferences that dispatchers asked to stop, with the dispatch epoch. */
  readonly stopped: readonly { readonly conferenceId: string; readonly dispatchEpoch: bigint }[];
}

/** Registers a server of that ID, whose agent lives in the test. */
export async function holdAgent(
  client: ConvokeClient,
  serverId: string,
  capacity = 1000,
): Promise<HeldAgent> {
  const calls: ConferenceStart[][] = [];
  const epochs = new Map<string, bigint[]>();
  const stopped: { conferenceId: string; dispatchEpoch: bigint }[] = [];
  let waiting: ((starts: ConferenceStart[]) => void)[] = [];
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const listener = await listenGrpc({
    address: "127.0.0.1:0",
    services: [
      mounted(AgentService, {
        keepalive: () => ({ serverId }),
        async startConferences({ starts }): Promise<StartConferencesResponse> {
          for (const { conferenceId, dispatchEpoch } of starts) {
            epochs.set(conferenceId, [...(epochs.get(conferenceId) ?? []), dispatchEpoch]);
          }
          const next = waiting.shift();
          if (next) next(starts);
          else calls.push(starts);
          await released;
          const addressOf = ({ conferenceId, dispatchEpoch }: ConferenceStart) =>
            `ws://127.0.0.1:9/${serverId}/${conferenceId}/${dispatchEpoch}`;
          return create(StartConferencesResponseSchema, {
            results: starts.map((start) => ({
              conferenceId: start.conferenceId,
              outcome: { case: "address" as const, value: addressOf(start) },
            })),
          });
        },
        stopConferences({ stops }) {
          stopped.push(...stops.map(({ conferenceId, dispatchEpoch }) => ({ conferenceId, dispatchEpoch })));
          return { results: stops.map(({ conferenceId }) => ({ conferenceId })) };
        },
        listHostedConferences: () => ({ conferences: [] }),
      }),
    ],
  });
  await client.servers.registerServer({
    server: { serverId, agentAddress: listener.address, capacity, instanceId: `life-of-${serverId}` },
  });
  return {
    epochs,
    stopped,
    release,
    started() {
      const call = calls.shift();
      if (call) return Promise.resolve(call);
      return new Promise((resolve) => waiting.push(resolve));
    },
    async [Symbol.asyncDispose]() {
      release();
      waiting = [];
      await listener.stop(0);
    },
  };
}
