/**
 * What an application does for its participants: tells them where their conference is, and where to go when it is moved,
 * until it is over.
 *
 *     CONVOKE_ENDPOINT=127.0.0.1:7400 npx node client/examples/follow-a-conference.ts CONFERENCE
 */
// In a project of your own: from "convoke"
import { createConvokeClient, createWhereabouts, Dispatch_MoveReason, watchDispatches } from "../index.ts";

const [conferenceId = ""] = process.argv.slice(2);
using client = createConvokeClient({ endpoint: process.env.CONVOKE_ENDPOINT ?? "127.0.0.1:7400" });

const over = new AbortController();
const whereabouts = createWhereabouts();
whereabouts.follow(conferenceId, {
  placed({ serverId, address, previousServerId, moveReason }) {
    if (previousServerId === "") console.log(`${conferenceId} is on ${serverId}: join ${address}`);
    else {
      const why = Dispatch_MoveReason[moveReason];
      console.log(`${conferenceId} moved from ${previousServerId} to ${serverId} (${why}): join ${address}`);
    }
  },
  over() {
    console.log(`${conferenceId} is over`);
    over.abort();
  },
});

// One watch serves all conferences that are followed, and resumes by itself.
try {
  for await (const update of watchDispatches(client.conferences, { signal: over.signal })) {
    whereabouts.apply(update);
  }
} catch (err) {
  if (!over.signal.aborted) throw err;
}
