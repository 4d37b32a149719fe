import { timestampMs } from "../../../common/time.ts";
import type { Conference } from "../../../proto/gen/convoke/v1/conference_pb.js";
import type { Server, Server_Drain } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { ConvokeClient } from "../../transport/client.ts";
import { isoSeconds, textCell } from "../cells.ts";
import type { CliContext } from "../context.ts";

/** So many conferences are named with their reasons; the others are mostly left for the same. */
const MAX_NAMED = 5;

/** Which conferences a draining server still hosts, and why: a line for the server, and one for each of the first few. */
export async function describeLeft(
  client: ConvokeClient,
  { serverId, drain }: Server,
  { signal, clock }: Pick<CliContext, "signal" | "clock">,
): Promise<string[]> {
  const { server } = await client.servers.getServer({ serverId }, { signal });
  const left = server?.conferenceCount ?? 0;
  const lines = [`${serverId}: ${left} ${left === 1 ? "conference" : "conferences"} left`];
  const page = await client.conferences.listDispatches({ serverId, pageSize: MAX_NAMED }, { signal });
  for (const { conferenceId } of page.dispatches) {
    const { conference } = await client.conferences.getConference({ conferenceId }, { signal });
    if (conference) lines.push(`  ${conferenceId}: ${whyLeft(conference, drain, clock.wallMs())}`);
  }
  if (page.dispatches.length > 0 && left > page.dispatches.length)
    lines.push(`  and ${left - page.dispatches.length} more`);
  return lines;
}

/** What to say when the waiting ends before the drains. */
export function goesOn(serverIds: readonly string[]): string {
  const ids = serverIds.join(" ");
  return `the drain goes on: \`convoke get servers ${ids}\` tells how far it is, \`convoke uncordon ${ids}\` cancels it`;
}

function whyLeft(conference: Conference, drain: Server_Drain | undefined, nowMs: number): string {
  const { endTime, failure, weight, claim } = conference;
  const endMs = endTime ? timestampMs(endTime) : Number.POSITIVE_INFINITY;
  const deadlineMs = drain?.deadline ? timestampMs(drain.deadline) : 0;
  const beginMs = drain?.beginTime ? timestampMs(drain.beginTime) : 0;
  // A failure from before the drain says nothing about the move.
  if (failure?.failureTime && timestampMs(failure.failureTime) >= beginMs)
    return `${textCell(failure.message)} (it needs ${weight} ${weight === 1 ? "unit" : "units"})`;
  if (endMs <= deadlineMs && nowMs < deadlineMs) return `ends by itself at ${isoSeconds(endMs)}`;
  const { dispatch } = conference;
  if (claim && dispatch && claim.dispatchEpoch > dispatch.epoch)
    return `${claim.dispatcherId} is moving it now`;
  return "waits for a dispatcher to move it";
}
