/**
 * What a booking system does: schedules a conference that begins in a minute, waits until a dispatcher has placed it, and
 * prints the address that its participants join.
 *
 *     CONVOKE_ENDPOINT=127.0.0.1:7400 npx node client/examples/schedule-and-join.ts
 */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
// In a project of your own: from "convoke"
import { createConvokeClient, EventType, watchDispatches } from "../index.ts";

using client = createConvokeClient({ endpoint: process.env.CONVOKE_ENDPOINT ?? "127.0.0.1:7400" });

const { conference } = await client.conferences.createConference({
  conference: {
    displayName: "Weekly review",
    startTime: timestampFromMs(Date.now() + 60_000),
    endTime: timestampFromMs(Date.now() + 31 * 60_000),
    expectedParticipants: 8,
  },
  // Repeating the call with the same request_id gives the same conference, so it is safe after a lost reply.
  requestId: `weekly-review-${Date.now()}`,
});
const conferenceId = conference?.conferenceId;

// The watch begins with all rows there are, so it does not matter whether the conference was placed before it began.
for await (const update of watchDispatches(client.conferences, { signal: AbortSignal.timeout(30_000) })) {
  if (update.kind !== "events") continue;
  const row = update.events.find(
    ({ type, dispatch }) => type === EventType.PUT && dispatch?.conferenceId === conferenceId,
  );
  if (!row?.dispatch) continue;
  console.log(`${conferenceId} is on ${row.dispatch.serverId}: join ${row.dispatch.address}`);
  break;
}
