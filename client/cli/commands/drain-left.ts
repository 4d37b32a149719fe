import { timestampMs } from "../../../common/time.ts";
import type { Conference } from "../../../proto/gen/convoke/v1/conference_pb.js";
import type { Server, Server_Drain } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { ConvokeClient } from "../../transport/client.ts";
import { isoSeconds, textCell } from "../cells.ts";
import type { CliContext } from "../context.ts";
import { idsText } from "../resources/brake.ts";

/** So many conferences are looked at; the others are mostly left for the same reasons. */
const MAX_LOOKED_AT = 20;

/** Which conferences a draining server still hosts, and why: a line for the server, and one for each reason. */
export async function describeLeft(
  client: ConvokeClient,
  { serverId, drain }: Server,
  { signal, clock }: Pick<CliContext, "signal" | "clock">,
): Promise<string[]> {
  const { server } = await client.servers.getServer({ serverId }, { signal });
  const left = server?.conferenceCount ?? 0;
  const page = await client.conferences.listDispatches({ serverId, pageSize: MAX_LOOKED_AT }, { signal });
  const idsByReason = new Map<string, string[]>();
  for (const { conferenceId } of page.dispatches) {
    const { conference } = await client.conferences.getConference({ conferenceId }, { signal });
    if (!conference) continue;
    const reason = whyLeft(conference, drain, clock.wallMs());
    const ids = idsByReason.get(reason);
    if (ids) ids.push(conferenceId);
    else idsByReason.set(reason, [conferenceId]);
  }
  const more = page.dispatches.length > 0 ? left - page.dispatches.length : 0;
  return [
    `${serverId}: ${left} ${left === 1 ? "conference" : "conferences"} left`,
    ...[...idsByReason].map(([reason, ids]) => `  ${idsText(ids)}: ${reason}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

/** What to say when the waiting ends before the drains. */
export function goesOn(serverIds: readonly string[]): string {
  const ids = serverIds.join(" ");
  return `the drain goes on: \`convoke get servers ${ids}\` tells how far it is, \`convoke uncordon ${ids}\` cancels it`;
}

function whyLeft(conference: Conference, drain: Server_Drain | undefined, nowMs: number): string {
  const { endTime, failure, claim } = conference;
  const endMs = endTime ? timestampMs(endTime) : Number.POSITIVE_INFINITY;
  const deadlineMs = drain?.deadline ? timestampMs(drain.deadline) : 0;
  const beginMs = drain?.beginTime ? timestampMs(drain.beginTime) : 0;
  // A failure from before the drain says nothing about the move.
  if (failure?.failureTime && timestampMs(failure.failureTime) >= beginMs) return textCell(failure.message);
  if (endMs <= deadlineMs && nowMs < deadlineMs) return `ends by itself at ${isoSeconds(endMs)}`;
  const { dispatch } = conference;
  if (claim && dispatch && claim.dispatchEpoch > dispatch.epoch)
    return `${claim.dispatcherId} is moving it now`;
  return "waits for a dispatcher to move it";
}
