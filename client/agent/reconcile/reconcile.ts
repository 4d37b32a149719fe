import type { Client } from "@connectrpc/connect";
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { runTasks } from "../../../common/run-tasks.ts";
import type { ConferenceService } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import type { HostedConferences } from "../hosted.ts";
import { checkUnconfirmed } from "./check-unconfirmed.ts";
import { createCondemned } from "./condemned.ts";
import { followTable } from "./follow-table.ts";
import { stopExpired } from "./stop-expired.ts";
import { createTablePicture } from "./table-picture.ts";

export interface ReconcileOptions {
  readonly conferences: Pick<Client<typeof ConferenceService>, "watchDispatches" | "getConference">;
  readonly serverId: string;
  readonly hosted: HostedConferences;
  readonly logger: Logger;
  readonly clock: Clock;
  /** How long a room goes on after its conference was moved because of a drain. */
  readonly moveLingerMs: number;
  /** Called each time the dispatch table can be followed (again). */
  readonly onConnected?: () => void;
  /** Called with each sign of life of the table. */
  readonly onHeard?: () => void;
  /** Called when the table says that what is hosted here is void because the server is held to be lost. */
  readonly onLost?: (cause: string) => void;
}

/**
 * Keeps what is hosted in step with the dispatch table, until the signal aborts: what the table has moved, ended or voided
 * is stopped, and so is what was started and never committed, and what may no longer run. Otherwise it stops nothing for
 * want of an answer: how long that may go on while the control plane is away is the isolation's to say.
 */
export async function runReconcile(options: ReconcileOptions, signal: AbortSignal): Promise<void> {
  const { clock, moveLingerMs, onHeard, onLost = () => {} } = options;
  const condemned = createCondemned(options);
  const picture = createTablePicture({
    ...options,
    stop: (conference, cause, lingers) => condemned.add(conference, cause, lingers ? moveLingerMs : 0),
    onLost,
  });
  let heardMs = Number.NEGATIVE_INFINITY;
  const heard = () => {
    heardMs = clock.monotonicMs();
    onHeard?.();
  };
  await runTasks(
    signal,
    (s) => followTable({ ...options, picture, onHeard: heard }, s),
    (s) => checkUnconfirmed({ ...options, picture, stop: condemned.add }, s),
    (s) => stopExpired({ ...options, heardMs: () => heardMs, stop: condemned.add }, s),
    (s) => condemned.run(s),
  );
}
