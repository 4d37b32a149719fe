import {
  type Conference,
  type Conference_Claim,
  Conference_State,
} from "../../../proto/gen/convoke/v1/conference_pb.js";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import type { Server } from "../../../proto/gen/convoke/v1/server_pb.js";
import { paginate } from "../../paginate.ts";
import { type ConvokeClient, createAgentClient } from "../../transport/client.ts";

/** What the control plane and the agents say after the run. */
export interface Readback {
  readonly conferences: readonly Conference[];
  readonly dispatches: readonly Dispatch[];
  /** What each agent hosts. */
  readonly hosted: readonly Hosted[];
}

export interface Hosted {
  readonly serverId: string;
  readonly conferenceId: string;
  readonly epoch: bigint;
}

/** The figures of a run. */
export interface Figures {
  /** How many conferences there are. */
  readonly conferences: number;
  /** How many have a valid dispatch. */
  readonly active: number;
  /** How many of those imported do not exist, have no valid dispatch, or are not hosted where the table says. */
  readonly lost: number;
  /** How many have more than one valid row, or are hosted anywhere beside where the table says. */
  readonly duplicate_dispatches: number;
  /** The largest difference between what two dispatchers took of one round. */
  readonly max_share_difference: number;
  /** How many of their share dispatchers left so long that others took them over; then shares may differ by more than 1. */
  readonly taken_over: number;
  /** How many the dead dispatcher had claimed and others placed. */
  readonly reclaimed_from_dead_dispatcher: number;
}

const PAGE_SIZE = 1000;

const pages = (pageToken: string) => ({ pageSize: PAGE_SIZE, pageToken });

/**
 * Reads everything back through the public API.
 * @param gone the conference server that was killed: its agent cannot be asked
 */
export async function readBack(client: ConvokeClient, signal: AbortSignal, gone?: string): Promise<Readback> {
  const conferences: Conference[] = [];
  for await (const conference of paginate(
    (pageToken) => client.conferences.listConferences(pages(pageToken), { signal }),
    (page) => page.conferences,
  )) {
    conferences.push(conference);
  }
  const dispatches = await readDispatches(client, signal);
  const { servers } = await client.servers.listServers({ pageSize: PAGE_SIZE }, { signal });
  const reachable = servers.filter(({ serverId }) => serverId !== gone);
  const hosted = await Promise.all(reachable.map((server) => readHosted(server, signal)));
  return { conferences, dispatches, hosted: hosted.flat() };
}

/** All valid rows of the dispatch table. */
async function readDispatches(client: ConvokeClient, signal: AbortSignal): Promise<Dispatch[]> {
  const dispatches: Dispatch[] = [];
  for await (const dispatch of paginate(
    (pageToken) => client.conferences.listDispatches(pages(pageToken), { signal }),
    (page) => page.dispatches,
  )) {
    dispatches.push(dispatch);
  }
  return dispatches;
}

/** What an agent hosts, by its own account. */
export async function readHosted(
  { serverId, agentAddress }: Pick<Server, "serverId" | "agentAddress">,
  signal: AbortSignal,
): Promise<Hosted[]> {
  using agent = createAgentClient(agentAddress);
  const hosted: Hosted[] = [];
  for await (const { conferenceId, dispatchEpoch } of paginate(
    (pageToken) => agent.listHostedConferences(pages(pageToken), { signal }),
    (page) => page.conferences,
  )) {
    hosted.push({ serverId, conferenceId, epoch: dispatchEpoch });
  }
  return hosted;
}

export interface FiguresOptions {
  /** The IDs that were imported. */
  readonly expected: readonly string[];
  /** The dispatcher that was killed. */
  readonly dead?: string | undefined;
  /** The conferences as they were read before: the claim behind a row that is lost is forgotten when it is moved. */
  readonly earlier?: readonly Conference[];
}

/** Works the figures out. */
export function figuresOf(readback: Readback, { expected, dead, earlier = [] }: FiguresOptions): Figures {
  const { conferences, dispatches, hosted } = readback;
  const claims = claimsOf([...earlier, ...conferences]);
  const rows = Map.groupBy(dispatches, ({ conferenceId }) => conferenceId);
  const rooms = Map.groupBy(hosted, ({ conferenceId }) => conferenceId);
  const isInPlace = (id: string) => {
    const row = rows.get(id)?.[0];
    return (
      row && rooms.get(id)?.some(({ serverId, epoch }) => serverId === row.serverId && epoch === row.epoch)
    );
  };
  const hasMoreThanOne = (id: string) => (rows.get(id)?.length ?? 0) > 1 || (rooms.get(id)?.length ?? 0) > 1;
  return {
    conferences: conferences.length,
    active: conferences.filter(({ state }) => state === Conference_State.ACTIVE).length,
    lost: expected.filter((id) => !isInPlace(id)).length,
    duplicate_dispatches: [...new Set([...rows.keys(), ...rooms.keys()])].filter(hasMoreThanOne).length,
    max_share_difference: maxShareDifference(
      claims.filter(({ round }) => round > 0n),
      dead,
    ),
    taken_over: claims.filter(({ round }) => round === 0n).length,
    reclaimed_from_dead_dispatcher: conferences.filter(
      ({ state, supersededClaim }) =>
        state === Conference_State.ACTIVE && dead !== undefined && supersededClaim?.dispatcherId === dead,
    ).length,
  };
}

/** Every claim that is remembered, also those that became void. */
function claimsOf(conferences: readonly Conference[]): Conference_Claim[] {
  const claims = new Map<string, Conference_Claim>();
  for (const { conferenceId, claim, supersededClaim } of conferences) {
    for (const each of [claim, supersededClaim]) {
      if (each) claims.set(`${conferenceId}@${each.dispatchEpoch}`, each);
    }
  }
  return [...claims.values()];
}

/**
 * Each conference names the round in which it was taken and by whom, also for the claim that became void. So what each
 * dispatcher took of each round can be counted afterwards; the dead one took part in those in which it has claims.
 */
function maxShareDifference(counted: readonly Conference_Claim[], dead: string | undefined): number {
  const everyone = new Set(counted.map(({ dispatcherId }) => dispatcherId));
  let largest = 0;
  for (const round of Map.groupBy(counted, (claim) => claim.round).values()) {
    const taken = new Map([...everyone].filter((id) => id !== dead).map((id) => [id, 0]));
    for (const { dispatcherId } of round) taken.set(dispatcherId, (taken.get(dispatcherId) ?? 0) + 1);
    largest = Math.max(largest, Math.max(...taken.values()) - Math.min(...taken.values()));
  }
  return largest;
}
