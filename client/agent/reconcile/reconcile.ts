import type { Client } from "@connectrpc/connect";
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { runTasks } from "../../../common/run-tasks.ts";
import type { ConferenceService } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import type { HostedConferences } from "../hosted.ts";
import { checkUnconfirmed } from "./check-unconfirmed.ts";
import { createCondemned } from "./condemned.ts";
import { followTable } from "./follow-table.ts";
import { createTablePicture } from "./table-picture.ts";

export interface ReconcileOptions {
  readonly conferences: Pick<Client<typeof ConferenceService>, "watchDispatches" | "getConference">;
  readonly serverId: string;
  readonly hosted: HostedConferences;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Called each time the dispatch table can be followed (again). */
  readonly onConnected?: () => void;
}

/**
 * Keeps what is hosted in step with the dispatch table, until the signal aborts: what the table has moved, ended or voided
 * is stopped, and so is what was started and never committed. It stops nothing for want of an answer: while the control
 * plane is away, all goes on.
 */
export async function runReconcile(options: ReconcileOptions, signal: AbortSignal): Promise<void> {
  const condemned = createCondemned(options);
  const picture = createTablePicture({ ...options, stop: condemned.add });
  await runTasks(
    signal,
    (s) => followTable({ ...options, picture }, s),
    (s) => checkUnconfirmed({ ...options, picture, stop: condemned.add }, s),
    (s) => condemned.run(s),
  );
}
